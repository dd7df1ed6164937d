// Original file: proto/exhibit/v1/agent.proto


export interface KindChanges {
  'kind'?: (string);
  'new'?: (number);
  'gone'?: (number);
  'changed'?: (number);
}

export interface KindChanges__Output {
  'kind': (string);
  'new': (number);
  'gone': (number);
  'changed': (number);
}
