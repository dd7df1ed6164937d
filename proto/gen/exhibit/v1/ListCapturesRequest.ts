// Original file: proto/exhibit/v1/agent.proto


export interface ListCapturesRequest {
  'limit'?: (number);
}

export interface ListCapturesRequest__Output {
  'limit': (number);
}
