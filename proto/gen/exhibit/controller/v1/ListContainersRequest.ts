// Original file: proto/exhibit/controller/v1/controller.proto


export interface ListContainersRequest {
  'clusters'?: (string)[];
  'node'?: (string);
  'namespace'?: (string);
  'labels'?: ({[key: string]: string});
  'limit'?: (number);
}

export interface ListContainersRequest__Output {
  'clusters': (string)[];
  'node': (string);
  'namespace': (string);
  'labels': ({[key: string]: string});
  'limit': (number);
}
