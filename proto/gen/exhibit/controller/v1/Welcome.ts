// Original file: proto/exhibit/controller/v1/link.proto


export interface Welcome {
  'protocol'?: (number);
  'controllerVersion'?: (string);
  'heartbeatMs'?: (number);
}

export interface Welcome__Output {
  'protocol': (number);
  'controllerVersion': (string);
  'heartbeatMs': (number);
}
