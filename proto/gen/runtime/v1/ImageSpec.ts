// Original file: proto/runtime/v1/api.proto


export interface ImageSpec {
  'image'?: (string);
}

export interface ImageSpec__Output {
  'image': (string);
}
