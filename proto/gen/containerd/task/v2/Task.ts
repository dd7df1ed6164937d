// Original file: proto/containerd/shim.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { Empty as _google_protobuf_Empty, Empty__Output as _google_protobuf_Empty__Output } from '../../../google/protobuf/Empty.ts';
import type { ResumeRequest as _containerd_task_v2_ResumeRequest, ResumeRequest__Output as _containerd_task_v2_ResumeRequest__Output } from '../../../containerd/task/v2/ResumeRequest.ts';
import type { StateRequest as _containerd_task_v2_StateRequest, StateRequest__Output as _containerd_task_v2_StateRequest__Output } from '../../../containerd/task/v2/StateRequest.ts';
import type { StateResponse as _containerd_task_v2_StateResponse, StateResponse__Output as _containerd_task_v2_StateResponse__Output } from '../../../containerd/task/v2/StateResponse.ts';

export interface TaskClient extends grpc.Client {
  Resume(argument: _containerd_task_v2_ResumeRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  Resume(argument: _containerd_task_v2_ResumeRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  Resume(argument: _containerd_task_v2_ResumeRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  Resume(argument: _containerd_task_v2_ResumeRequest, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  resume(argument: _containerd_task_v2_ResumeRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  resume(argument: _containerd_task_v2_ResumeRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  resume(argument: _containerd_task_v2_ResumeRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  resume(argument: _containerd_task_v2_ResumeRequest, callback: grpc.requestCallback<_google_protobuf_Empty__Output>): grpc.ClientUnaryCall;
  
  State(argument: _containerd_task_v2_StateRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  State(argument: _containerd_task_v2_StateRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  State(argument: _containerd_task_v2_StateRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  State(argument: _containerd_task_v2_StateRequest, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  state(argument: _containerd_task_v2_StateRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  state(argument: _containerd_task_v2_StateRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  state(argument: _containerd_task_v2_StateRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  state(argument: _containerd_task_v2_StateRequest, callback: grpc.requestCallback<_containerd_task_v2_StateResponse__Output>): grpc.ClientUnaryCall;
  
}

export interface TaskHandlers extends grpc.UntypedServiceImplementation {
  Resume: grpc.handleUnaryCall<_containerd_task_v2_ResumeRequest__Output, _google_protobuf_Empty>;
  
  State: grpc.handleUnaryCall<_containerd_task_v2_StateRequest__Output, _containerd_task_v2_StateResponse>;
  
}

export interface TaskDefinition extends grpc.ServiceDefinition {
  Resume: MethodDefinition<_containerd_task_v2_ResumeRequest, _google_protobuf_Empty, _containerd_task_v2_ResumeRequest__Output, _google_protobuf_Empty__Output>
  State: MethodDefinition<_containerd_task_v2_StateRequest, _containerd_task_v2_StateResponse, _containerd_task_v2_StateRequest__Output, _containerd_task_v2_StateResponse__Output>
}
