// Original file: proto/exhibit/v1/agent.proto


export interface LabelSelector {
  'labels'?: ({[key: string]: string});
  'container'?: (string);
}

export interface LabelSelector__Output {
  'labels': ({[key: string]: string});
  'container': (string);
}
