// Original file: proto/exhibit/v1/agent.proto


export interface Check {
  'name'?: (string);
  'status'?: (string);
  'found'?: (string);
  'meaning'?: (string);
  'mend'?: (string);
  'group'?: (string);
}

export interface Check__Output {
  'name': (string);
  'status': (string);
  'found': (string);
  'meaning': (string);
  'mend': (string);
  'group': (string);
}
