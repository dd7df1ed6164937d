// Original file: proto/exhibit/v1/agent.proto


export interface Container {
  'id'?: (string);
  'name'?: (string);
  'namespace'?: (string);
  'pod'?: (string);
  'image'?: (string);
  'state'?: (string);
  'createdAt'?: (string);
  'labels'?: ({[key: string]: string});
}

export interface Container__Output {
  'id': (string);
  'name': (string);
  'namespace': (string);
  'pod': (string);
  'image': (string);
  'state': (string);
  'createdAt': (string);
  'labels': ({[key: string]: string});
}
