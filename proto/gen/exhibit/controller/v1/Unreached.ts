// Original file: proto/exhibit/controller/v1/controller.proto


export interface Unreached {
  'cluster'?: (string);
  'node'?: (string);
  'reason'?: (string);
}

export interface Unreached__Output {
  'cluster': (string);
  'node': (string);
  'reason': (string);
}
