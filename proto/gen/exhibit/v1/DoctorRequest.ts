// Original file: proto/exhibit/v1/agent.proto


export interface DoctorRequest {
}

export interface DoctorRequest__Output {
}
