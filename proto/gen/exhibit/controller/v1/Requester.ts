// Original file: proto/exhibit/controller/v1/link.proto


export interface Requester {
  'trigger'?: (string);
  'identity'?: (string);
  'approvedBy'?: (string)[];
}

export interface Requester__Output {
  'trigger': (string);
  'identity': (string);
  'approvedBy': (string)[];
}
