// Original file: proto/containerd/tasks.proto


export interface CheckpointTaskResponse {
}

export interface CheckpointTaskResponse__Output {
}
