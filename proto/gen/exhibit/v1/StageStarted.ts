// Original file: proto/exhibit/v1/agent.proto


export interface StageStarted {
  'stage'?: (string);
  'before'?: (number);
}

export interface StageStarted__Output {
  'stage': (string);
  'before': (number);
}
