/**
 * `npm run lab`: the real parts for work by hand. Prints where they are, as shell lines or as one JSON object, and stops
 * them on Ctrl-C, SIGTERM or SIGHUP.
 */
import { parseArgs } from 'node:util';
import { type LabDocker, startDocker } from './docker.ts';
import { WORKLOAD_IMAGE } from './image.ts';
import { type LabNode, type Release, startNode } from './node.ts';
import { dockerObstacle, nodeObstacle, s3Obstacle } from './requires.ts';
import { type LabS3, startS3 } from './s3.ts';

const USAGE = `usage: npm run lab -- [--json] [--no-s3] [--docker] [--release 2.1|1.6] [--cgroup v1|v2] [--disk]
  --json       print one JSON object in place of shell lines
  --no-s3      no S3 server
  --docker     a Docker node as well
  --release    line of containerd (2.1)
  --cgroup     control groups as the node sees them (v2)
  --disk       keep containerd's images and layers on disk, not in memory`;

function readArguments(argv: string[]) {
  const { values } = parseArgs({
    args: argv,
    options: {
      json: { type: 'boolean', default: false },
      s3: { type: 'boolean', default: true },
      docker: { type: 'boolean', default: false },
      release: { type: 'string', default: '2.1' },
      cgroup: { type: 'string', default: 'v2' },
      disk: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
    allowNegative: true,
  });
  const { cgroup, release, ...switches } = values;
  if (cgroup !== 'v1' && cgroup !== 'v2') throw new Error('--cgroup is v1 or v2');
  if (release !== '2.1' && release !== '1.6') throw new Error('--release is 2.1 or 1.6');
  return { ...switches, cgroup: cgroup as 'v1' | 'v2', release: release as Release };
}

async function startPods(node: LabNode): Promise<void> {
  const env = { DB_PASSWORD: 'hunter2' };
  await node.runPod({
    namespace: 'prod',
    name: 'web-0',
    labels: { app: 'shop', tier: 'web' },
    containers: [{ name: 'web', command: ['sh', '/app/server.sh'], env }],
  });
  await node.runPod({
    namespace: 'prod',
    name: 'api-0',
    labels: { app: 'shop', tier: 'api' },
    containers: [{ name: 'api' }, { name: 'sidecar' }],
  });
}

/** As Docker Compose would start it. */
async function startComposed(node: LabDocker): Promise<void> {
  const labels = ['com.docker.compose.project=shop', 'com.docker.compose.service=web'];
  const given = labels.flatMap((label) => ['--label', label]);
  await node.docker('run', '-d', '--name', 'shop-web-1', '--network', 'none', ...given, WORKLOAD_IMAGE);
}

const dockerEnvironment = (node: LabDocker): Record<string, string> => ({
  EXHIBIT_LAB_DOCKER_INIT_PID: String(node.initPid),
  EXHIBIT_LAB_DOCKER_ROOT: node.hostRoot,
  EXHIBIT_LAB_DOCKER_PROC_ROOT: node.procRoot,
  EXHIBIT_LAB_DOCKER_SOCKET: node.socket,
});

/** Names and values for the shell; the AWS names are those of the SDK and of the aws program. */
function environment(node: LabNode, s3: LabS3 | undefined): Record<string, string> {
  const here = {
    EXHIBIT_LAB_INIT_PID: String(node.initPid),
    EXHIBIT_LAB_NODE_ROOT: node.hostRoot,
    EXHIBIT_LAB_PROC_ROOT: node.procRoot,
    EXHIBIT_LAB_CONTAINERD_SOCKET: node.socket,
    EXHIBIT_LAB_CONTAINERD_PID: String(node.containerdPid),
  };
  if (s3 === undefined) return here;
  return {
    ...here,
    EXHIBIT_LAB_S3_BUCKET: s3.bucket,
    AWS_ENDPOINT_URL_S3: s3.endpoint,
    AWS_REGION: s3.region,
    AWS_ACCESS_KEY_ID: s3.accessKeyId,
    AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
  };
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function print(variables: Record<string, string>, json: boolean): void {
  const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${quoted(value)}`);
  process.stdout.write(json ? `${JSON.stringify(variables)}\n` : `${lines.join('\n')}\n`);
}

/** Resolves at the first signal that asks for an end; what comes later finds the disposal under way. */
function asked(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => resolve(signal));
  });
}

async function main(): Promise<number> {
  const options = readArguments(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const { s3: withS3, docker: withDocker, release, cgroup, disk } = options;
  const obstacle =
    nodeObstacle(release) ?? (withS3 ? s3Obstacle() : undefined) ?? (withDocker ? dockerObstacle() : undefined);
  if (obstacle !== undefined) {
    process.stderr.write(`lab: cannot start here: ${obstacle}\n`);
    return 1;
  }
  const ended = asked();
  await using node = await startNode({ release, cgroup, disk });
  await startPods(node);
  await using s3 = withS3 ? await startS3() : undefined;
  await using docker = withDocker ? await startDocker({ cgroup, disk }) : undefined;
  if (docker !== undefined) await startComposed(docker);
  print({ ...environment(node, s3), ...(docker === undefined ? {} : dockerEnvironment(docker)) }, options.json);
  process.stderr.write('lab: prod/web-0 and prod/api-0 are running; Ctrl-C stops everything\n');
  process.stderr.write(`lab: a shell inside: nsenter -t ${node.initPid} -m -u -i -n -p -r -w bash\n`);
  await ended;
  process.stderr.write('lab: stopping\n');
  return 0;
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`lab: ${error instanceof Error ? error.message : error}\n${USAGE}\n`);
  process.exitCode = 1;
}
