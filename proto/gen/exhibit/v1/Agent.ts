// Original file: proto/exhibit/v1/agent.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { CancelRequest as _exhibit_v1_CancelRequest, CancelRequest__Output as _exhibit_v1_CancelRequest__Output } from '../../exhibit/v1/CancelRequest.ts';
import type { Capture as _exhibit_v1_Capture, Capture__Output as _exhibit_v1_Capture__Output } from '../../exhibit/v1/Capture.ts';
import type { CaptureEvent as _exhibit_v1_CaptureEvent, CaptureEvent__Output as _exhibit_v1_CaptureEvent__Output } from '../../exhibit/v1/CaptureEvent.ts';
import type { CaptureRequest as _exhibit_v1_CaptureRequest, CaptureRequest__Output as _exhibit_v1_CaptureRequest__Output } from '../../exhibit/v1/CaptureRequest.ts';
import type { DoctorRequest as _exhibit_v1_DoctorRequest, DoctorRequest__Output as _exhibit_v1_DoctorRequest__Output } from '../../exhibit/v1/DoctorRequest.ts';
import type { DoctorResponse as _exhibit_v1_DoctorResponse, DoctorResponse__Output as _exhibit_v1_DoctorResponse__Output } from '../../exhibit/v1/DoctorResponse.ts';
import type { GetCaptureRequest as _exhibit_v1_GetCaptureRequest, GetCaptureRequest__Output as _exhibit_v1_GetCaptureRequest__Output } from '../../exhibit/v1/GetCaptureRequest.ts';
import type { GetLogLevelRequest as _exhibit_v1_GetLogLevelRequest, GetLogLevelRequest__Output as _exhibit_v1_GetLogLevelRequest__Output } from '../../exhibit/v1/GetLogLevelRequest.ts';
import type { ListCapturesRequest as _exhibit_v1_ListCapturesRequest, ListCapturesRequest__Output as _exhibit_v1_ListCapturesRequest__Output } from '../../exhibit/v1/ListCapturesRequest.ts';
import type { ListCapturesResponse as _exhibit_v1_ListCapturesResponse, ListCapturesResponse__Output as _exhibit_v1_ListCapturesResponse__Output } from '../../exhibit/v1/ListCapturesResponse.ts';
import type { ListContainersRequest as _exhibit_v1_ListContainersRequest, ListContainersRequest__Output as _exhibit_v1_ListContainersRequest__Output } from '../../exhibit/v1/ListContainersRequest.ts';
import type { ListContainersResponse as _exhibit_v1_ListContainersResponse, ListContainersResponse__Output as _exhibit_v1_ListContainersResponse__Output } from '../../exhibit/v1/ListContainersResponse.ts';
import type { LogLevel as _exhibit_v1_LogLevel, LogLevel__Output as _exhibit_v1_LogLevel__Output } from '../../exhibit/v1/LogLevel.ts';
import type { SetLogLevelRequest as _exhibit_v1_SetLogLevelRequest, SetLogLevelRequest__Output as _exhibit_v1_SetLogLevelRequest__Output } from '../../exhibit/v1/SetLogLevelRequest.ts';

export interface AgentClient extends grpc.Client {
  Cancel(argument: _exhibit_v1_CancelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  Cancel(argument: _exhibit_v1_CancelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  Cancel(argument: _exhibit_v1_CancelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  Cancel(argument: _exhibit_v1_CancelRequest, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  cancel(argument: _exhibit_v1_CancelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  cancel(argument: _exhibit_v1_CancelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  cancel(argument: _exhibit_v1_CancelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  cancel(argument: _exhibit_v1_CancelRequest, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  
  Capture(argument: _exhibit_v1_CaptureRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_v1_CaptureEvent__Output>;
  Capture(argument: _exhibit_v1_CaptureRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_v1_CaptureEvent__Output>;
  capture(argument: _exhibit_v1_CaptureRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_v1_CaptureEvent__Output>;
  capture(argument: _exhibit_v1_CaptureRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_v1_CaptureEvent__Output>;
  
  Doctor(argument: _exhibit_v1_DoctorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  Doctor(argument: _exhibit_v1_DoctorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  Doctor(argument: _exhibit_v1_DoctorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  Doctor(argument: _exhibit_v1_DoctorRequest, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  doctor(argument: _exhibit_v1_DoctorRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  doctor(argument: _exhibit_v1_DoctorRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  doctor(argument: _exhibit_v1_DoctorRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  doctor(argument: _exhibit_v1_DoctorRequest, callback: grpc.requestCallback<_exhibit_v1_DoctorResponse__Output>): grpc.ClientUnaryCall;
  
  GetCapture(argument: _exhibit_v1_GetCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  GetCapture(argument: _exhibit_v1_GetCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  GetCapture(argument: _exhibit_v1_GetCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  GetCapture(argument: _exhibit_v1_GetCaptureRequest, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_v1_GetCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_v1_GetCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_v1_GetCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_v1_GetCaptureRequest, callback: grpc.requestCallback<_exhibit_v1_Capture__Output>): grpc.ClientUnaryCall;
  
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  
  ListCaptures(argument: _exhibit_v1_ListCapturesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  ListCaptures(argument: _exhibit_v1_ListCapturesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  ListCaptures(argument: _exhibit_v1_ListCapturesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  ListCaptures(argument: _exhibit_v1_ListCapturesRequest, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_v1_ListCapturesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_v1_ListCapturesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_v1_ListCapturesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_v1_ListCapturesRequest, callback: grpc.requestCallback<_exhibit_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  
  ListContainers(argument: _exhibit_v1_ListContainersRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  ListContainers(argument: _exhibit_v1_ListContainersRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  ListContainers(argument: _exhibit_v1_ListContainersRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  ListContainers(argument: _exhibit_v1_ListContainersRequest, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_v1_ListContainersRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_v1_ListContainersRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_v1_ListContainersRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_v1_ListContainersRequest, callback: grpc.requestCallback<_exhibit_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  
}

export interface AgentHandlers extends grpc.UntypedServiceImplementation {
  Cancel: grpc.handleUnaryCall<_exhibit_v1_CancelRequest__Output, _exhibit_v1_Capture>;
  
  Capture: grpc.handleServerStreamingCall<_exhibit_v1_CaptureRequest__Output, _exhibit_v1_CaptureEvent>;
  
  Doctor: grpc.handleUnaryCall<_exhibit_v1_DoctorRequest__Output, _exhibit_v1_DoctorResponse>;
  
  GetCapture: grpc.handleUnaryCall<_exhibit_v1_GetCaptureRequest__Output, _exhibit_v1_Capture>;
  
  GetLogLevel: grpc.handleUnaryCall<_exhibit_v1_GetLogLevelRequest__Output, _exhibit_v1_LogLevel>;
  
  ListCaptures: grpc.handleUnaryCall<_exhibit_v1_ListCapturesRequest__Output, _exhibit_v1_ListCapturesResponse>;
  
  ListContainers: grpc.handleUnaryCall<_exhibit_v1_ListContainersRequest__Output, _exhibit_v1_ListContainersResponse>;
  
  SetLogLevel: grpc.handleUnaryCall<_exhibit_v1_SetLogLevelRequest__Output, _exhibit_v1_LogLevel>;
  
}

export interface AgentDefinition extends grpc.ServiceDefinition {
  Cancel: MethodDefinition<_exhibit_v1_CancelRequest, _exhibit_v1_Capture, _exhibit_v1_CancelRequest__Output, _exhibit_v1_Capture__Output>
  Capture: MethodDefinition<_exhibit_v1_CaptureRequest, _exhibit_v1_CaptureEvent, _exhibit_v1_CaptureRequest__Output, _exhibit_v1_CaptureEvent__Output>
  Doctor: MethodDefinition<_exhibit_v1_DoctorRequest, _exhibit_v1_DoctorResponse, _exhibit_v1_DoctorRequest__Output, _exhibit_v1_DoctorResponse__Output>
  GetCapture: MethodDefinition<_exhibit_v1_GetCaptureRequest, _exhibit_v1_Capture, _exhibit_v1_GetCaptureRequest__Output, _exhibit_v1_Capture__Output>
  GetLogLevel: MethodDefinition<_exhibit_v1_GetLogLevelRequest, _exhibit_v1_LogLevel, _exhibit_v1_GetLogLevelRequest__Output, _exhibit_v1_LogLevel__Output>
  ListCaptures: MethodDefinition<_exhibit_v1_ListCapturesRequest, _exhibit_v1_ListCapturesResponse, _exhibit_v1_ListCapturesRequest__Output, _exhibit_v1_ListCapturesResponse__Output>
  ListContainers: MethodDefinition<_exhibit_v1_ListContainersRequest, _exhibit_v1_ListContainersResponse, _exhibit_v1_ListContainersRequest__Output, _exhibit_v1_ListContainersResponse__Output>
  SetLogLevel: MethodDefinition<_exhibit_v1_SetLogLevelRequest, _exhibit_v1_LogLevel, _exhibit_v1_SetLogLevelRequest__Output, _exhibit_v1_LogLevel__Output>
}
