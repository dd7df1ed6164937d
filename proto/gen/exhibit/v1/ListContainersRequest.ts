// Original file: proto/exhibit/v1/agent.proto


export interface ListContainersRequest {
}

export interface ListContainersRequest__Output {
}
