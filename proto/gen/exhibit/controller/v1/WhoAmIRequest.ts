// Original file: proto/exhibit/controller/v1/controller.proto


export interface WhoAmIRequest {
}

export interface WhoAmIRequest__Output {
}
