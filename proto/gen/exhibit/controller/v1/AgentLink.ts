// Original file: proto/exhibit/controller/v1/link.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { AgentMessage as _exhibit_controller_v1_AgentMessage, AgentMessage__Output as _exhibit_controller_v1_AgentMessage__Output } from '../../../exhibit/controller/v1/AgentMessage.ts';
import type { ControllerMessage as _exhibit_controller_v1_ControllerMessage, ControllerMessage__Output as _exhibit_controller_v1_ControllerMessage__Output } from '../../../exhibit/controller/v1/ControllerMessage.ts';

export interface AgentLinkClient extends grpc.Client {
  Connect(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_exhibit_controller_v1_AgentMessage, _exhibit_controller_v1_ControllerMessage__Output>;
  Connect(options?: grpc.CallOptions): grpc.ClientDuplexStream<_exhibit_controller_v1_AgentMessage, _exhibit_controller_v1_ControllerMessage__Output>;
  connect(metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientDuplexStream<_exhibit_controller_v1_AgentMessage, _exhibit_controller_v1_ControllerMessage__Output>;
  connect(options?: grpc.CallOptions): grpc.ClientDuplexStream<_exhibit_controller_v1_AgentMessage, _exhibit_controller_v1_ControllerMessage__Output>;
  
}

export interface AgentLinkHandlers extends grpc.UntypedServiceImplementation {
  Connect: grpc.handleBidiStreamingCall<_exhibit_controller_v1_AgentMessage__Output, _exhibit_controller_v1_ControllerMessage>;
  
}

export interface AgentLinkDefinition extends grpc.ServiceDefinition {
  Connect: MethodDefinition<_exhibit_controller_v1_AgentMessage, _exhibit_controller_v1_ControllerMessage, _exhibit_controller_v1_AgentMessage__Output, _exhibit_controller_v1_ControllerMessage__Output>
}
