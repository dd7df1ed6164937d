// Original file: proto/containerd/ttrpc.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { Request as _ttrpc_Request, Request__Output as _ttrpc_Request__Output } from '../ttrpc/Request.ts';
import type { Response as _ttrpc_Response, Response__Output as _ttrpc_Response__Output } from '../ttrpc/Response.ts';

export interface FramesClient extends grpc.Client {
  Call(argument: _ttrpc_Request, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  Call(argument: _ttrpc_Request, metadata: grpc.Metadata, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  Call(argument: _ttrpc_Request, options: grpc.CallOptions, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  Call(argument: _ttrpc_Request, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  call(argument: _ttrpc_Request, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  call(argument: _ttrpc_Request, metadata: grpc.Metadata, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  call(argument: _ttrpc_Request, options: grpc.CallOptions, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  call(argument: _ttrpc_Request, callback: grpc.requestCallback<_ttrpc_Response__Output>): grpc.ClientUnaryCall;
  
}

export interface FramesHandlers extends grpc.UntypedServiceImplementation {
  Call: grpc.handleUnaryCall<_ttrpc_Request__Output, _ttrpc_Response>;
  
}

export interface FramesDefinition extends grpc.ServiceDefinition {
  Call: MethodDefinition<_ttrpc_Request, _ttrpc_Response, _ttrpc_Request__Output, _ttrpc_Response__Output>
}
