// Original file: proto/exhibit/v1/agent.proto


export interface Accepted {
  'target'?: (string);
  'sinkUrl'?: (string);
  'stages'?: (string)[];
  'created'?: (boolean);
}

export interface Accepted__Output {
  'target': (string);
  'sinkUrl': (string);
  'stages': (string)[];
  'created': (boolean);
}
