import type * as grpc from '@grpc/grpc-js';
import type { MessageTypeDefinition } from '@grpc/proto-loader';

import type { Approval as _exhibit_controller_v1_Approval, Approval__Output as _exhibit_controller_v1_Approval__Output } from './exhibit/controller/v1/Approval.ts';
import type { ApproveCaptureRequest as _exhibit_controller_v1_ApproveCaptureRequest, ApproveCaptureRequest__Output as _exhibit_controller_v1_ApproveCaptureRequest__Output } from './exhibit/controller/v1/ApproveCaptureRequest.ts';
import type { CancelCaptureRequest as _exhibit_controller_v1_CancelCaptureRequest, CancelCaptureRequest__Output as _exhibit_controller_v1_CancelCaptureRequest__Output } from './exhibit/controller/v1/CancelCaptureRequest.ts';
import type { CaptureUpdate as _exhibit_controller_v1_CaptureUpdate, CaptureUpdate__Output as _exhibit_controller_v1_CaptureUpdate__Output } from './exhibit/controller/v1/CaptureUpdate.ts';
import type { Case as _exhibit_controller_v1_Case, Case__Output as _exhibit_controller_v1_Case__Output } from './exhibit/controller/v1/Case.ts';
import type { CaseNote as _exhibit_controller_v1_CaseNote, CaseNote__Output as _exhibit_controller_v1_CaseNote__Output } from './exhibit/controller/v1/CaseNote.ts';
import type { CloseCaseRequest as _exhibit_controller_v1_CloseCaseRequest, CloseCaseRequest__Output as _exhibit_controller_v1_CloseCaseRequest__Output } from './exhibit/controller/v1/CloseCaseRequest.ts';
import type { ControlledCapture as _exhibit_controller_v1_ControlledCapture, ControlledCapture__Output as _exhibit_controller_v1_ControlledCapture__Output } from './exhibit/controller/v1/ControlledCapture.ts';
import type { ControllerClient as _exhibit_controller_v1_ControllerClient, ControllerDefinition as _exhibit_controller_v1_ControllerDefinition } from './exhibit/controller/v1/Controller.ts';
import type { CreateCaptureRequest as _exhibit_controller_v1_CreateCaptureRequest, CreateCaptureRequest__Output as _exhibit_controller_v1_CreateCaptureRequest__Output } from './exhibit/controller/v1/CreateCaptureRequest.ts';
import type { CreateCaptureResponse as _exhibit_controller_v1_CreateCaptureResponse, CreateCaptureResponse__Output as _exhibit_controller_v1_CreateCaptureResponse__Output } from './exhibit/controller/v1/CreateCaptureResponse.ts';
import type { CustodyEntry as _exhibit_controller_v1_CustodyEntry, CustodyEntry__Output as _exhibit_controller_v1_CustodyEntry__Output } from './exhibit/controller/v1/CustodyEntry.ts';
import type { DenyCaptureRequest as _exhibit_controller_v1_DenyCaptureRequest, DenyCaptureRequest__Output as _exhibit_controller_v1_DenyCaptureRequest__Output } from './exhibit/controller/v1/DenyCaptureRequest.ts';
import type { GetCaptureRequest as _exhibit_controller_v1_GetCaptureRequest, GetCaptureRequest__Output as _exhibit_controller_v1_GetCaptureRequest__Output } from './exhibit/controller/v1/GetCaptureRequest.ts';
import type { GetCaseRequest as _exhibit_controller_v1_GetCaseRequest, GetCaseRequest__Output as _exhibit_controller_v1_GetCaseRequest__Output } from './exhibit/controller/v1/GetCaseRequest.ts';
import type { Grant as _exhibit_controller_v1_Grant, Grant__Output as _exhibit_controller_v1_Grant__Output } from './exhibit/controller/v1/Grant.ts';
import type { ListCapturesRequest as _exhibit_controller_v1_ListCapturesRequest, ListCapturesRequest__Output as _exhibit_controller_v1_ListCapturesRequest__Output } from './exhibit/controller/v1/ListCapturesRequest.ts';
import type { ListCapturesResponse as _exhibit_controller_v1_ListCapturesResponse, ListCapturesResponse__Output as _exhibit_controller_v1_ListCapturesResponse__Output } from './exhibit/controller/v1/ListCapturesResponse.ts';
import type { ListCasesRequest as _exhibit_controller_v1_ListCasesRequest, ListCasesRequest__Output as _exhibit_controller_v1_ListCasesRequest__Output } from './exhibit/controller/v1/ListCasesRequest.ts';
import type { ListCasesResponse as _exhibit_controller_v1_ListCasesResponse, ListCasesResponse__Output as _exhibit_controller_v1_ListCasesResponse__Output } from './exhibit/controller/v1/ListCasesResponse.ts';
import type { ListContainersRequest as _exhibit_controller_v1_ListContainersRequest, ListContainersRequest__Output as _exhibit_controller_v1_ListContainersRequest__Output } from './exhibit/controller/v1/ListContainersRequest.ts';
import type { ListContainersResponse as _exhibit_controller_v1_ListContainersResponse, ListContainersResponse__Output as _exhibit_controller_v1_ListContainersResponse__Output } from './exhibit/controller/v1/ListContainersResponse.ts';
import type { ListCustodyRequest as _exhibit_controller_v1_ListCustodyRequest, ListCustodyRequest__Output as _exhibit_controller_v1_ListCustodyRequest__Output } from './exhibit/controller/v1/ListCustodyRequest.ts';
import type { ListCustodyResponse as _exhibit_controller_v1_ListCustodyResponse, ListCustodyResponse__Output as _exhibit_controller_v1_ListCustodyResponse__Output } from './exhibit/controller/v1/ListCustodyResponse.ts';
import type { ListNodesRequest as _exhibit_controller_v1_ListNodesRequest, ListNodesRequest__Output as _exhibit_controller_v1_ListNodesRequest__Output } from './exhibit/controller/v1/ListNodesRequest.ts';
import type { ListNodesResponse as _exhibit_controller_v1_ListNodesResponse, ListNodesResponse__Output as _exhibit_controller_v1_ListNodesResponse__Output } from './exhibit/controller/v1/ListNodesResponse.ts';
import type { Node as _exhibit_controller_v1_Node, Node__Output as _exhibit_controller_v1_Node__Output } from './exhibit/controller/v1/Node.ts';
import type { NoteCaseRequest as _exhibit_controller_v1_NoteCaseRequest, NoteCaseRequest__Output as _exhibit_controller_v1_NoteCaseRequest__Output } from './exhibit/controller/v1/NoteCaseRequest.ts';
import type { OpenCaseRequest as _exhibit_controller_v1_OpenCaseRequest, OpenCaseRequest__Output as _exhibit_controller_v1_OpenCaseRequest__Output } from './exhibit/controller/v1/OpenCaseRequest.ts';
import type { PlacedContainer as _exhibit_controller_v1_PlacedContainer, PlacedContainer__Output as _exhibit_controller_v1_PlacedContainer__Output } from './exhibit/controller/v1/PlacedContainer.ts';
import type { Unreached as _exhibit_controller_v1_Unreached, Unreached__Output as _exhibit_controller_v1_Unreached__Output } from './exhibit/controller/v1/Unreached.ts';
import type { WatchCaptureRequest as _exhibit_controller_v1_WatchCaptureRequest, WatchCaptureRequest__Output as _exhibit_controller_v1_WatchCaptureRequest__Output } from './exhibit/controller/v1/WatchCaptureRequest.ts';
import type { WhoAmIRequest as _exhibit_controller_v1_WhoAmIRequest, WhoAmIRequest__Output as _exhibit_controller_v1_WhoAmIRequest__Output } from './exhibit/controller/v1/WhoAmIRequest.ts';
import type { WhoAmIResponse as _exhibit_controller_v1_WhoAmIResponse, WhoAmIResponse__Output as _exhibit_controller_v1_WhoAmIResponse__Output } from './exhibit/controller/v1/WhoAmIResponse.ts';
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
    controller: {
      v1: {
        Approval: MessageTypeDefinition<_exhibit_controller_v1_Approval, _exhibit_controller_v1_Approval__Output>
        ApproveCaptureRequest: MessageTypeDefinition<_exhibit_controller_v1_ApproveCaptureRequest, _exhibit_controller_v1_ApproveCaptureRequest__Output>
        CancelCaptureRequest: MessageTypeDefinition<_exhibit_controller_v1_CancelCaptureRequest, _exhibit_controller_v1_CancelCaptureRequest__Output>
        CaptureUpdate: MessageTypeDefinition<_exhibit_controller_v1_CaptureUpdate, _exhibit_controller_v1_CaptureUpdate__Output>
        Case: MessageTypeDefinition<_exhibit_controller_v1_Case, _exhibit_controller_v1_Case__Output>
        CaseNote: MessageTypeDefinition<_exhibit_controller_v1_CaseNote, _exhibit_controller_v1_CaseNote__Output>
        CloseCaseRequest: MessageTypeDefinition<_exhibit_controller_v1_CloseCaseRequest, _exhibit_controller_v1_CloseCaseRequest__Output>
        ControlledCapture: MessageTypeDefinition<_exhibit_controller_v1_ControlledCapture, _exhibit_controller_v1_ControlledCapture__Output>
        Controller: SubtypeConstructor<typeof grpc.Client, _exhibit_controller_v1_ControllerClient> & { service: _exhibit_controller_v1_ControllerDefinition }
        CreateCaptureRequest: MessageTypeDefinition<_exhibit_controller_v1_CreateCaptureRequest, _exhibit_controller_v1_CreateCaptureRequest__Output>
        CreateCaptureResponse: MessageTypeDefinition<_exhibit_controller_v1_CreateCaptureResponse, _exhibit_controller_v1_CreateCaptureResponse__Output>
        CustodyEntry: MessageTypeDefinition<_exhibit_controller_v1_CustodyEntry, _exhibit_controller_v1_CustodyEntry__Output>
        DenyCaptureRequest: MessageTypeDefinition<_exhibit_controller_v1_DenyCaptureRequest, _exhibit_controller_v1_DenyCaptureRequest__Output>
        GetCaptureRequest: MessageTypeDefinition<_exhibit_controller_v1_GetCaptureRequest, _exhibit_controller_v1_GetCaptureRequest__Output>
        GetCaseRequest: MessageTypeDefinition<_exhibit_controller_v1_GetCaseRequest, _exhibit_controller_v1_GetCaseRequest__Output>
        Grant: MessageTypeDefinition<_exhibit_controller_v1_Grant, _exhibit_controller_v1_Grant__Output>
        ListCapturesRequest: MessageTypeDefinition<_exhibit_controller_v1_ListCapturesRequest, _exhibit_controller_v1_ListCapturesRequest__Output>
        ListCapturesResponse: MessageTypeDefinition<_exhibit_controller_v1_ListCapturesResponse, _exhibit_controller_v1_ListCapturesResponse__Output>
        ListCasesRequest: MessageTypeDefinition<_exhibit_controller_v1_ListCasesRequest, _exhibit_controller_v1_ListCasesRequest__Output>
        ListCasesResponse: MessageTypeDefinition<_exhibit_controller_v1_ListCasesResponse, _exhibit_controller_v1_ListCasesResponse__Output>
        ListContainersRequest: MessageTypeDefinition<_exhibit_controller_v1_ListContainersRequest, _exhibit_controller_v1_ListContainersRequest__Output>
        ListContainersResponse: MessageTypeDefinition<_exhibit_controller_v1_ListContainersResponse, _exhibit_controller_v1_ListContainersResponse__Output>
        ListCustodyRequest: MessageTypeDefinition<_exhibit_controller_v1_ListCustodyRequest, _exhibit_controller_v1_ListCustodyRequest__Output>
        ListCustodyResponse: MessageTypeDefinition<_exhibit_controller_v1_ListCustodyResponse, _exhibit_controller_v1_ListCustodyResponse__Output>
        ListNodesRequest: MessageTypeDefinition<_exhibit_controller_v1_ListNodesRequest, _exhibit_controller_v1_ListNodesRequest__Output>
        ListNodesResponse: MessageTypeDefinition<_exhibit_controller_v1_ListNodesResponse, _exhibit_controller_v1_ListNodesResponse__Output>
        Node: MessageTypeDefinition<_exhibit_controller_v1_Node, _exhibit_controller_v1_Node__Output>
        NoteCaseRequest: MessageTypeDefinition<_exhibit_controller_v1_NoteCaseRequest, _exhibit_controller_v1_NoteCaseRequest__Output>
        OpenCaseRequest: MessageTypeDefinition<_exhibit_controller_v1_OpenCaseRequest, _exhibit_controller_v1_OpenCaseRequest__Output>
        PlacedContainer: MessageTypeDefinition<_exhibit_controller_v1_PlacedContainer, _exhibit_controller_v1_PlacedContainer__Output>
        Unreached: MessageTypeDefinition<_exhibit_controller_v1_Unreached, _exhibit_controller_v1_Unreached__Output>
        WatchCaptureRequest: MessageTypeDefinition<_exhibit_controller_v1_WatchCaptureRequest, _exhibit_controller_v1_WatchCaptureRequest__Output>
        WhoAmIRequest: MessageTypeDefinition<_exhibit_controller_v1_WhoAmIRequest, _exhibit_controller_v1_WhoAmIRequest__Output>
        WhoAmIResponse: MessageTypeDefinition<_exhibit_controller_v1_WhoAmIResponse, _exhibit_controller_v1_WhoAmIResponse__Output>
      }
    }
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

