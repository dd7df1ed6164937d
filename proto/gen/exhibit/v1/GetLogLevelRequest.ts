// Original file: proto/exhibit/v1/agent.proto


export interface GetLogLevelRequest {
}

export interface GetLogLevelRequest__Output {
}
