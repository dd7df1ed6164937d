// Original file: proto/containerd/shim.proto


export interface StateRequest {
  'id'?: (string);
  'execId'?: (string);
}

export interface StateRequest__Output {
  'id': (string);
  'execId': (string);
}
