// Original file: proto/exhibit/v1/agent.proto


export interface PodSelector {
  'namespace'?: (string);
  'pod'?: (string);
  'container'?: (string);
}

export interface PodSelector__Output {
  'namespace': (string);
  'pod': (string);
  'container': (string);
}
