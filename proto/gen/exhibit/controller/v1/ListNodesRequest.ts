// Original file: proto/exhibit/controller/v1/controller.proto


export interface ListNodesRequest {
  'cluster'?: (string);
  'connectedOnly'?: (boolean);
  'pageSize'?: (number);
  'pageToken'?: (string);
}

export interface ListNodesRequest__Output {
  'cluster': (string);
  'connectedOnly': (boolean);
  'pageSize': (number);
  'pageToken': (string);
}
