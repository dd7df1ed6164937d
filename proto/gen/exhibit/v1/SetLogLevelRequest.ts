// Original file: proto/exhibit/v1/agent.proto


export interface SetLogLevelRequest {
  'level'?: (string);
  'forMs'?: (number);
}

export interface SetLogLevelRequest__Output {
  'level': (string);
  'forMs': (number);
}
