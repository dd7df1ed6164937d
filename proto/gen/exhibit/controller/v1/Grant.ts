// Original file: proto/exhibit/controller/v1/controller.proto


export interface Grant {
  'role'?: (string);
  'clusters'?: (string)[];
  'namespaces'?: (string)[];
}

export interface Grant__Output {
  'role': (string);
  'clusters': (string)[];
  'namespaces': (string)[];
}
