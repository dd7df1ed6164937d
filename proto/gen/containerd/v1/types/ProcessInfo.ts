// Original file: proto/containerd/task.proto


export interface ProcessInfo {
  'pid'?: (number);
}

export interface ProcessInfo__Output {
  'pid': (number);
}
