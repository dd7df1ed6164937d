import { type Policy, type Rules, rulesFor, TRIGGERS } from '../policy.ts';
import { type Check, line } from './check.ts';

/** The policy in force, as the node's owner should see it: what is not limited is said as well. */
export function checkPolicy(policy: Policy): Check {
  const say = line('agent', 'policy');
  const { triggers = {}, ...common } = policy;
  const own = TRIGGERS.flatMap((trigger) => {
    const rules = triggers[trigger];
    return rules === undefined ? [] : [`${trigger}: ${rulesText(rules) || 'nothing more'}`];
  });
  const found = [rulesText(common) || 'no common rules', ...own].join('; ');
  const free = TRIGGERS.filter((trigger) => rulesFor(policy, trigger).every(({ rules }) => rulesText(rules) === ''));
  if (free.length === 0) return say.ok(found, 'what it forbids is refused, whoever asks');
  const meaning = `whoever may ask by ${free.join(', ')} may have every target of this node captured`;
  return free.length === TRIGGERS.length && own.length === 0
    ? say.ok('none is configured', `${meaning}; docs/policy.md says what can be limited`)
    : say.ok(found, meaning);
}

function rulesText({ namespaces, outsideKubernetes, artifacts, sinks, freeze, rate }: Rules): string {
  const names = (what: string, list: readonly string[] | undefined) =>
    list === undefined ? [] : [`${what} ${list.join(', ') || 'none'}`];
  const number = (what: string, value: number | undefined, unit: string) =>
    value === undefined ? [] : [`${what} ${value}${unit}`];
  return [
    ...names('namespaces', namespaces?.allow),
    ...names('not namespaces', namespaces?.deny),
    ...(outsideKubernetes === 'refuse' ? ['nothing outside Kubernetes'] : []),
    ...names('artifacts', artifacts),
    ...names('sinks', sinks),
    ...number('a freeze', freeze?.perCaptureMs, ' ms'),
    ...number('freezes an hour', freeze?.perHourMs, ` ms (then ${freeze?.whenSpent ?? 'refuse'})`),
    ...number('captures', rate?.captures, ` in ${(rate?.perMs ?? 0) / 1000} s`),
    ...number('at a time', rate?.concurrent, ''),
  ].join(', ');
}
