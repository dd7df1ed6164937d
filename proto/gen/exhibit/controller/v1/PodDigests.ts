// Original file: proto/exhibit/controller/v1/link.proto


export interface PodDigests {
  'digests'?: (number)[];
}

export interface PodDigests__Output {
  'digests': (number)[];
}
