// Original file: proto/exhibit/v1/agent.proto


export interface StageStarted {
  'stage'?: (string);
}

export interface StageStarted__Output {
  'stage': (string);
}
