import { describe, expect, test } from 'vitest';
import { GRANTS, granted, lineOf } from '../../../agent/doctor/grants.ts';

const MANIFEST = `spec:
  # hostPID: true, - KILL and mountPath: /host are named here, and granted nowhere.
  # hostPID: true
  #- KILL
  hostPID: true
  containers:
    - securityContext:
        capabilities:
          add:
            # Of other users.
            - KILL
      volumeMounts:
        - name: proc
          mountPath: /host/proc
        - name: node
          mountPath: /host
`;

describe('the line of a grant', () => {
  test.each([
    ['hostPID', 5],
    ['cap:KILL', 11],
    ['mount:/host', 16],
    ['mount:/host/proc', 14],
    ['cap:KIL', undefined],
    ['mount:/', undefined],
    ['hostIPC', undefined],
  ])('of %s is that which grants it, and no comment', (id, line) => {
    expect(lineOf(MANIFEST, id)).toBe(line);
  });
});

test('a mend names what is missing, where it is granted and what it is for', () => {
  expect(granted('cap:KILL', 'mount:/host')).toMatch(
    new RegExp(
      `^CAP_KILL is granted by manifests/base/agent/daemonset\\.yaml:\\d+ \\(${GRANTS['cap:KILL']}\\); ` +
        `the mount of /host is granted by manifests/base/agent/daemonset\\.yaml:\\d+ \\(${GRANTS['mount:/host']}\\)$`,
    ),
  );
});
