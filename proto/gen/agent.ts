import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { Accepted as _exhibit_v1_Accepted, Accepted__Output as _exhibit_v1_Accepted__Output } from './exhibit/v1/Accepted.ts';
import type { AgentClient as _exhibit_v1_AgentClient, AgentDefinition as _exhibit_v1_AgentDefinition } from './exhibit/v1/Agent.ts';
import type { CancelRequest as _exhibit_v1_CancelRequest, CancelRequest__Output as _exhibit_v1_CancelRequest__Output } from './exhibit/v1/CancelRequest.ts';
import type { Capture as _exhibit_v1_Capture, Capture__Output as _exhibit_v1_Capture__Output } from './exhibit/v1/Capture.ts';
import type { CaptureEvent as _exhibit_v1_CaptureEvent, CaptureEvent__Output as _exhibit_v1_CaptureEvent__Output } from './exhibit/v1/CaptureEvent.ts';
import type { CaptureRequest as _exhibit_v1_CaptureRequest, CaptureRequest__Output as _exhibit_v1_CaptureRequest__Output } from './exhibit/v1/CaptureRequest.ts';
import type { Changes as _exhibit_v1_Changes, Changes__Output as _exhibit_v1_Changes__Output } from './exhibit/v1/Changes.ts';
import type { Check as _exhibit_v1_Check, Check__Output as _exhibit_v1_Check__Output } from './exhibit/v1/Check.ts';
import type { Container as _exhibit_v1_Container, Container__Output as _exhibit_v1_Container__Output } from './exhibit/v1/Container.ts';
import type { DoctorRequest as _exhibit_v1_DoctorRequest, DoctorRequest__Output as _exhibit_v1_DoctorRequest__Output } from './exhibit/v1/DoctorRequest.ts';
import type { DoctorResponse as _exhibit_v1_DoctorResponse, DoctorResponse__Output as _exhibit_v1_DoctorResponse__Output } from './exhibit/v1/DoctorResponse.ts';
import type { GetCaptureRequest as _exhibit_v1_GetCaptureRequest, GetCaptureRequest__Output as _exhibit_v1_GetCaptureRequest__Output } from './exhibit/v1/GetCaptureRequest.ts';
import type { GetLogLevelRequest as _exhibit_v1_GetLogLevelRequest, GetLogLevelRequest__Output as _exhibit_v1_GetLogLevelRequest__Output } from './exhibit/v1/GetLogLevelRequest.ts';
import type { KindChanges as _exhibit_v1_KindChanges, KindChanges__Output as _exhibit_v1_KindChanges__Output } from './exhibit/v1/KindChanges.ts';
import type { LabelSelector as _exhibit_v1_LabelSelector, LabelSelector__Output as _exhibit_v1_LabelSelector__Output } from './exhibit/v1/LabelSelector.ts';
import type { ListCapturesRequest as _exhibit_v1_ListCapturesRequest, ListCapturesRequest__Output as _exhibit_v1_ListCapturesRequest__Output } from './exhibit/v1/ListCapturesRequest.ts';
import type { ListCapturesResponse as _exhibit_v1_ListCapturesResponse, ListCapturesResponse__Output as _exhibit_v1_ListCapturesResponse__Output } from './exhibit/v1/ListCapturesResponse.ts';
import type { ListContainersRequest as _exhibit_v1_ListContainersRequest, ListContainersRequest__Output as _exhibit_v1_ListContainersRequest__Output } from './exhibit/v1/ListContainersRequest.ts';
import type { ListContainersResponse as _exhibit_v1_ListContainersResponse, ListContainersResponse__Output as _exhibit_v1_ListContainersResponse__Output } from './exhibit/v1/ListContainersResponse.ts';
import type { LogLevel as _exhibit_v1_LogLevel, LogLevel__Output as _exhibit_v1_LogLevel__Output } from './exhibit/v1/LogLevel.ts';
import type { PodSelector as _exhibit_v1_PodSelector, PodSelector__Output as _exhibit_v1_PodSelector__Output } from './exhibit/v1/PodSelector.ts';
import type { Selector as _exhibit_v1_Selector, Selector__Output as _exhibit_v1_Selector__Output } from './exhibit/v1/Selector.ts';
import type { SetLogLevelRequest as _exhibit_v1_SetLogLevelRequest, SetLogLevelRequest__Output as _exhibit_v1_SetLogLevelRequest__Output } from './exhibit/v1/SetLogLevelRequest.ts';
import type { StageEnded as _exhibit_v1_StageEnded, StageEnded__Output as _exhibit_v1_StageEnded__Output } from './exhibit/v1/StageEnded.ts';
import type { StageProgress as _exhibit_v1_StageProgress, StageProgress__Output as _exhibit_v1_StageProgress__Output } from './exhibit/v1/StageProgress.ts';
import type { StageStarted as _exhibit_v1_StageStarted, StageStarted__Output as _exhibit_v1_StageStarted__Output } from './exhibit/v1/StageStarted.ts';

type SubtypeConstructor<Constructor extends new (...args: any) => any, Subtype> = {
  new(...args: ConstructorParameters<Constructor>): Subtype;
};

export interface ProtoGrpcType {
  exhibit: {
    v1: {
      Accepted: MessageTypeDefinition<_exhibit_v1_Accepted, _exhibit_v1_Accepted__Output>
      Agent: SubtypeConstructor<typeof grpc.Client, _exhibit_v1_AgentClient> & { service: _exhibit_v1_AgentDefinition }
      CancelRequest: MessageTypeDefinition<_exhibit_v1_CancelRequest, _exhibit_v1_CancelRequest__Output>
      Capture: MessageTypeDefinition<_exhibit_v1_Capture, _exhibit_v1_Capture__Output>
      CaptureEvent: MessageTypeDefinition<_exhibit_v1_CaptureEvent, _exhibit_v1_CaptureEvent__Output>
      CaptureRequest: MessageTypeDefinition<_exhibit_v1_CaptureRequest, _exhibit_v1_CaptureRequest__Output>
      Changes: MessageTypeDefinition<_exhibit_v1_Changes, _exhibit_v1_Changes__Output>
      Check: MessageTypeDefinition<_exhibit_v1_Check, _exhibit_v1_Check__Output>
      Container: MessageTypeDefinition<_exhibit_v1_Container, _exhibit_v1_Container__Output>
      DoctorRequest: MessageTypeDefinition<_exhibit_v1_DoctorRequest, _exhibit_v1_DoctorRequest__Output>
      DoctorResponse: MessageTypeDefinition<_exhibit_v1_DoctorResponse, _exhibit_v1_DoctorResponse__Output>
      GetCaptureRequest: MessageTypeDefinition<_exhibit_v1_GetCaptureRequest, _exhibit_v1_GetCaptureRequest__Output>
      GetLogLevelRequest: MessageTypeDefinition<_exhibit_v1_GetLogLevelRequest, _exhibit_v1_GetLogLevelRequest__Output>
      KindChanges: MessageTypeDefinition<_exhibit_v1_KindChanges, _exhibit_v1_KindChanges__Output>
      LabelSelector: MessageTypeDefinition<_exhibit_v1_LabelSelector, _exhibit_v1_LabelSelector__Output>
      ListCapturesRequest: MessageTypeDefinition<_exhibit_v1_ListCapturesRequest, _exhibit_v1_ListCapturesRequest__Output>
      ListCapturesResponse: MessageTypeDefinition<_exhibit_v1_ListCapturesResponse, _exhibit_v1_ListCapturesResponse__Output>
      ListContainersRequest: MessageTypeDefinition<_exhibit_v1_ListContainersRequest, _exhibit_v1_ListContainersRequest__Output>
      ListContainersResponse: MessageTypeDefinition<_exhibit_v1_ListContainersResponse, _exhibit_v1_ListContainersResponse__Output>
      LogLevel: MessageTypeDefinition<_exhibit_v1_LogLevel, _exhibit_v1_LogLevel__Output>
      PodSelector: MessageTypeDefinition<_exhibit_v1_PodSelector, _exhibit_v1_PodSelector__Output>
      Selector: MessageTypeDefinition<_exhibit_v1_Selector, _exhibit_v1_Selector__Output>
      SetLogLevelRequest: MessageTypeDefinition<_exhibit_v1_SetLogLevelRequest, _exhibit_v1_SetLogLevelRequest__Output>
      StageEnded: MessageTypeDefinition<_exhibit_v1_StageEnded, _exhibit_v1_StageEnded__Output>
      StageProgress: MessageTypeDefinition<_exhibit_v1_StageProgress, _exhibit_v1_StageProgress__Output>
      StageStarted: MessageTypeDefinition<_exhibit_v1_StageStarted, _exhibit_v1_StageStarted__Output>
    }
  }
}

