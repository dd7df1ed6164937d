// Original file: proto/exhibit/controller/v1/controller.proto

import type * as grpc from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import type { ApproveCaptureRequest as _exhibit_controller_v1_ApproveCaptureRequest, ApproveCaptureRequest__Output as _exhibit_controller_v1_ApproveCaptureRequest__Output } from '../../../exhibit/controller/v1/ApproveCaptureRequest.ts';
import type { CancelCaptureRequest as _exhibit_controller_v1_CancelCaptureRequest, CancelCaptureRequest__Output as _exhibit_controller_v1_CancelCaptureRequest__Output } from '../../../exhibit/controller/v1/CancelCaptureRequest.ts';
import type { CaptureUpdate as _exhibit_controller_v1_CaptureUpdate, CaptureUpdate__Output as _exhibit_controller_v1_CaptureUpdate__Output } from '../../../exhibit/controller/v1/CaptureUpdate.ts';
import type { Case as _exhibit_controller_v1_Case, Case__Output as _exhibit_controller_v1_Case__Output } from '../../../exhibit/controller/v1/Case.ts';
import type { CloseCaseRequest as _exhibit_controller_v1_CloseCaseRequest, CloseCaseRequest__Output as _exhibit_controller_v1_CloseCaseRequest__Output } from '../../../exhibit/controller/v1/CloseCaseRequest.ts';
import type { ControlledCapture as _exhibit_controller_v1_ControlledCapture, ControlledCapture__Output as _exhibit_controller_v1_ControlledCapture__Output } from '../../../exhibit/controller/v1/ControlledCapture.ts';
import type { CreateCaptureRequest as _exhibit_controller_v1_CreateCaptureRequest, CreateCaptureRequest__Output as _exhibit_controller_v1_CreateCaptureRequest__Output } from '../../../exhibit/controller/v1/CreateCaptureRequest.ts';
import type { CreateCaptureResponse as _exhibit_controller_v1_CreateCaptureResponse, CreateCaptureResponse__Output as _exhibit_controller_v1_CreateCaptureResponse__Output } from '../../../exhibit/controller/v1/CreateCaptureResponse.ts';
import type { DenyCaptureRequest as _exhibit_controller_v1_DenyCaptureRequest, DenyCaptureRequest__Output as _exhibit_controller_v1_DenyCaptureRequest__Output } from '../../../exhibit/controller/v1/DenyCaptureRequest.ts';
import type { GetCaptureRequest as _exhibit_controller_v1_GetCaptureRequest, GetCaptureRequest__Output as _exhibit_controller_v1_GetCaptureRequest__Output } from '../../../exhibit/controller/v1/GetCaptureRequest.ts';
import type { GetCaseRequest as _exhibit_controller_v1_GetCaseRequest, GetCaseRequest__Output as _exhibit_controller_v1_GetCaseRequest__Output } from '../../../exhibit/controller/v1/GetCaseRequest.ts';
import type { GetLogLevelRequest as _exhibit_v1_GetLogLevelRequest, GetLogLevelRequest__Output as _exhibit_v1_GetLogLevelRequest__Output } from '../../../exhibit/v1/GetLogLevelRequest.ts';
import type { ListCapturesRequest as _exhibit_controller_v1_ListCapturesRequest, ListCapturesRequest__Output as _exhibit_controller_v1_ListCapturesRequest__Output } from '../../../exhibit/controller/v1/ListCapturesRequest.ts';
import type { ListCapturesResponse as _exhibit_controller_v1_ListCapturesResponse, ListCapturesResponse__Output as _exhibit_controller_v1_ListCapturesResponse__Output } from '../../../exhibit/controller/v1/ListCapturesResponse.ts';
import type { ListCasesRequest as _exhibit_controller_v1_ListCasesRequest, ListCasesRequest__Output as _exhibit_controller_v1_ListCasesRequest__Output } from '../../../exhibit/controller/v1/ListCasesRequest.ts';
import type { ListCasesResponse as _exhibit_controller_v1_ListCasesResponse, ListCasesResponse__Output as _exhibit_controller_v1_ListCasesResponse__Output } from '../../../exhibit/controller/v1/ListCasesResponse.ts';
import type { ListContainersRequest as _exhibit_controller_v1_ListContainersRequest, ListContainersRequest__Output as _exhibit_controller_v1_ListContainersRequest__Output } from '../../../exhibit/controller/v1/ListContainersRequest.ts';
import type { ListContainersResponse as _exhibit_controller_v1_ListContainersResponse, ListContainersResponse__Output as _exhibit_controller_v1_ListContainersResponse__Output } from '../../../exhibit/controller/v1/ListContainersResponse.ts';
import type { ListCustodyRequest as _exhibit_controller_v1_ListCustodyRequest, ListCustodyRequest__Output as _exhibit_controller_v1_ListCustodyRequest__Output } from '../../../exhibit/controller/v1/ListCustodyRequest.ts';
import type { ListCustodyResponse as _exhibit_controller_v1_ListCustodyResponse, ListCustodyResponse__Output as _exhibit_controller_v1_ListCustodyResponse__Output } from '../../../exhibit/controller/v1/ListCustodyResponse.ts';
import type { ListNodesRequest as _exhibit_controller_v1_ListNodesRequest, ListNodesRequest__Output as _exhibit_controller_v1_ListNodesRequest__Output } from '../../../exhibit/controller/v1/ListNodesRequest.ts';
import type { ListNodesResponse as _exhibit_controller_v1_ListNodesResponse, ListNodesResponse__Output as _exhibit_controller_v1_ListNodesResponse__Output } from '../../../exhibit/controller/v1/ListNodesResponse.ts';
import type { LogLevel as _exhibit_v1_LogLevel, LogLevel__Output as _exhibit_v1_LogLevel__Output } from '../../../exhibit/v1/LogLevel.ts';
import type { NoteCaseRequest as _exhibit_controller_v1_NoteCaseRequest, NoteCaseRequest__Output as _exhibit_controller_v1_NoteCaseRequest__Output } from '../../../exhibit/controller/v1/NoteCaseRequest.ts';
import type { OpenCaseRequest as _exhibit_controller_v1_OpenCaseRequest, OpenCaseRequest__Output as _exhibit_controller_v1_OpenCaseRequest__Output } from '../../../exhibit/controller/v1/OpenCaseRequest.ts';
import type { SetLogLevelRequest as _exhibit_v1_SetLogLevelRequest, SetLogLevelRequest__Output as _exhibit_v1_SetLogLevelRequest__Output } from '../../../exhibit/v1/SetLogLevelRequest.ts';
import type { WatchCaptureRequest as _exhibit_controller_v1_WatchCaptureRequest, WatchCaptureRequest__Output as _exhibit_controller_v1_WatchCaptureRequest__Output } from '../../../exhibit/controller/v1/WatchCaptureRequest.ts';
import type { WhoAmIRequest as _exhibit_controller_v1_WhoAmIRequest, WhoAmIRequest__Output as _exhibit_controller_v1_WhoAmIRequest__Output } from '../../../exhibit/controller/v1/WhoAmIRequest.ts';
import type { WhoAmIResponse as _exhibit_controller_v1_WhoAmIResponse, WhoAmIResponse__Output as _exhibit_controller_v1_WhoAmIResponse__Output } from '../../../exhibit/controller/v1/WhoAmIResponse.ts';

export interface ControllerClient extends grpc.Client {
  ApproveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  ApproveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  ApproveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  ApproveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  approveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  approveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  approveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  approveCapture(argument: _exhibit_controller_v1_ApproveCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  
  CancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  CancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  CancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  CancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  cancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  cancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  cancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  cancelCapture(argument: _exhibit_controller_v1_CancelCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  
  CloseCase(argument: _exhibit_controller_v1_CloseCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  CloseCase(argument: _exhibit_controller_v1_CloseCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  CloseCase(argument: _exhibit_controller_v1_CloseCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  CloseCase(argument: _exhibit_controller_v1_CloseCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  closeCase(argument: _exhibit_controller_v1_CloseCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  closeCase(argument: _exhibit_controller_v1_CloseCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  closeCase(argument: _exhibit_controller_v1_CloseCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  closeCase(argument: _exhibit_controller_v1_CloseCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  
  CreateCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  CreateCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  CreateCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  CreateCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  createCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  createCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  createCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  createCapture(argument: _exhibit_controller_v1_CreateCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_CreateCaptureResponse__Output>): grpc.ClientUnaryCall;
  
  DenyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  DenyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  DenyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  DenyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  denyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  denyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  denyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  denyCapture(argument: _exhibit_controller_v1_DenyCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  
  GetCapture(argument: _exhibit_controller_v1_GetCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  GetCapture(argument: _exhibit_controller_v1_GetCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  GetCapture(argument: _exhibit_controller_v1_GetCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  GetCapture(argument: _exhibit_controller_v1_GetCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_controller_v1_GetCaptureRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_controller_v1_GetCaptureRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_controller_v1_GetCaptureRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  getCapture(argument: _exhibit_controller_v1_GetCaptureRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ControlledCapture__Output>): grpc.ClientUnaryCall;
  
  GetCase(argument: _exhibit_controller_v1_GetCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  GetCase(argument: _exhibit_controller_v1_GetCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  GetCase(argument: _exhibit_controller_v1_GetCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  GetCase(argument: _exhibit_controller_v1_GetCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  getCase(argument: _exhibit_controller_v1_GetCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  getCase(argument: _exhibit_controller_v1_GetCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  getCase(argument: _exhibit_controller_v1_GetCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  getCase(argument: _exhibit_controller_v1_GetCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  GetLogLevel(argument: _exhibit_v1_GetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  getLogLevel(argument: _exhibit_v1_GetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  
  ListCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  ListCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  ListCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  ListCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  listCaptures(argument: _exhibit_controller_v1_ListCapturesRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListCapturesResponse__Output>): grpc.ClientUnaryCall;
  
  ListCases(argument: _exhibit_controller_v1_ListCasesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  ListCases(argument: _exhibit_controller_v1_ListCasesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  ListCases(argument: _exhibit_controller_v1_ListCasesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  ListCases(argument: _exhibit_controller_v1_ListCasesRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  listCases(argument: _exhibit_controller_v1_ListCasesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  listCases(argument: _exhibit_controller_v1_ListCasesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  listCases(argument: _exhibit_controller_v1_ListCasesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  listCases(argument: _exhibit_controller_v1_ListCasesRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListCasesResponse__Output>): grpc.ClientUnaryCall;
  
  ListContainers(argument: _exhibit_controller_v1_ListContainersRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  ListContainers(argument: _exhibit_controller_v1_ListContainersRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  ListContainers(argument: _exhibit_controller_v1_ListContainersRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  ListContainers(argument: _exhibit_controller_v1_ListContainersRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_controller_v1_ListContainersRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_controller_v1_ListContainersRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_controller_v1_ListContainersRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  listContainers(argument: _exhibit_controller_v1_ListContainersRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListContainersResponse__Output>): grpc.ClientUnaryCall;
  
  ListCustody(argument: _exhibit_controller_v1_ListCustodyRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  ListCustody(argument: _exhibit_controller_v1_ListCustodyRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  ListCustody(argument: _exhibit_controller_v1_ListCustodyRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  ListCustody(argument: _exhibit_controller_v1_ListCustodyRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  listCustody(argument: _exhibit_controller_v1_ListCustodyRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  listCustody(argument: _exhibit_controller_v1_ListCustodyRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  listCustody(argument: _exhibit_controller_v1_ListCustodyRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  listCustody(argument: _exhibit_controller_v1_ListCustodyRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListCustodyResponse__Output>): grpc.ClientUnaryCall;
  
  ListNodes(argument: _exhibit_controller_v1_ListNodesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  ListNodes(argument: _exhibit_controller_v1_ListNodesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  ListNodes(argument: _exhibit_controller_v1_ListNodesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  ListNodes(argument: _exhibit_controller_v1_ListNodesRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  listNodes(argument: _exhibit_controller_v1_ListNodesRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  listNodes(argument: _exhibit_controller_v1_ListNodesRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  listNodes(argument: _exhibit_controller_v1_ListNodesRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  listNodes(argument: _exhibit_controller_v1_ListNodesRequest, callback: grpc.requestCallback<_exhibit_controller_v1_ListNodesResponse__Output>): grpc.ClientUnaryCall;
  
  NoteCase(argument: _exhibit_controller_v1_NoteCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  NoteCase(argument: _exhibit_controller_v1_NoteCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  NoteCase(argument: _exhibit_controller_v1_NoteCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  NoteCase(argument: _exhibit_controller_v1_NoteCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  noteCase(argument: _exhibit_controller_v1_NoteCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  noteCase(argument: _exhibit_controller_v1_NoteCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  noteCase(argument: _exhibit_controller_v1_NoteCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  noteCase(argument: _exhibit_controller_v1_NoteCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  
  OpenCase(argument: _exhibit_controller_v1_OpenCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  OpenCase(argument: _exhibit_controller_v1_OpenCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  OpenCase(argument: _exhibit_controller_v1_OpenCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  OpenCase(argument: _exhibit_controller_v1_OpenCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  openCase(argument: _exhibit_controller_v1_OpenCaseRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  openCase(argument: _exhibit_controller_v1_OpenCaseRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  openCase(argument: _exhibit_controller_v1_OpenCaseRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  openCase(argument: _exhibit_controller_v1_OpenCaseRequest, callback: grpc.requestCallback<_exhibit_controller_v1_Case__Output>): grpc.ClientUnaryCall;
  
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  SetLogLevel(argument: _exhibit_v1_SetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  setLogLevel(argument: _exhibit_v1_SetLogLevelRequest, callback: grpc.requestCallback<_exhibit_v1_LogLevel__Output>): grpc.ClientUnaryCall;
  
  WatchCapture(argument: _exhibit_controller_v1_WatchCaptureRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_controller_v1_CaptureUpdate__Output>;
  WatchCapture(argument: _exhibit_controller_v1_WatchCaptureRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_controller_v1_CaptureUpdate__Output>;
  watchCapture(argument: _exhibit_controller_v1_WatchCaptureRequest, metadata: grpc.Metadata, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_controller_v1_CaptureUpdate__Output>;
  watchCapture(argument: _exhibit_controller_v1_WatchCaptureRequest, options?: grpc.CallOptions): grpc.ClientReadableStream<_exhibit_controller_v1_CaptureUpdate__Output>;
  
  WhoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  WhoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  WhoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  WhoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  whoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, metadata: grpc.Metadata, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  whoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, metadata: grpc.Metadata, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  whoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, options: grpc.CallOptions, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  whoAmI(argument: _exhibit_controller_v1_WhoAmIRequest, callback: grpc.requestCallback<_exhibit_controller_v1_WhoAmIResponse__Output>): grpc.ClientUnaryCall;
  
}

export interface ControllerHandlers extends grpc.UntypedServiceImplementation {
  ApproveCapture: grpc.handleUnaryCall<_exhibit_controller_v1_ApproveCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture>;
  
  CancelCapture: grpc.handleUnaryCall<_exhibit_controller_v1_CancelCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture>;
  
  CloseCase: grpc.handleUnaryCall<_exhibit_controller_v1_CloseCaseRequest__Output, _exhibit_controller_v1_Case>;
  
  CreateCapture: grpc.handleUnaryCall<_exhibit_controller_v1_CreateCaptureRequest__Output, _exhibit_controller_v1_CreateCaptureResponse>;
  
  DenyCapture: grpc.handleUnaryCall<_exhibit_controller_v1_DenyCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture>;
  
  GetCapture: grpc.handleUnaryCall<_exhibit_controller_v1_GetCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture>;
  
  GetCase: grpc.handleUnaryCall<_exhibit_controller_v1_GetCaseRequest__Output, _exhibit_controller_v1_Case>;
  
  GetLogLevel: grpc.handleUnaryCall<_exhibit_v1_GetLogLevelRequest__Output, _exhibit_v1_LogLevel>;
  
  ListCaptures: grpc.handleUnaryCall<_exhibit_controller_v1_ListCapturesRequest__Output, _exhibit_controller_v1_ListCapturesResponse>;
  
  ListCases: grpc.handleUnaryCall<_exhibit_controller_v1_ListCasesRequest__Output, _exhibit_controller_v1_ListCasesResponse>;
  
  ListContainers: grpc.handleUnaryCall<_exhibit_controller_v1_ListContainersRequest__Output, _exhibit_controller_v1_ListContainersResponse>;
  
  ListCustody: grpc.handleUnaryCall<_exhibit_controller_v1_ListCustodyRequest__Output, _exhibit_controller_v1_ListCustodyResponse>;
  
  ListNodes: grpc.handleUnaryCall<_exhibit_controller_v1_ListNodesRequest__Output, _exhibit_controller_v1_ListNodesResponse>;
  
  NoteCase: grpc.handleUnaryCall<_exhibit_controller_v1_NoteCaseRequest__Output, _exhibit_controller_v1_Case>;
  
  OpenCase: grpc.handleUnaryCall<_exhibit_controller_v1_OpenCaseRequest__Output, _exhibit_controller_v1_Case>;
  
  SetLogLevel: grpc.handleUnaryCall<_exhibit_v1_SetLogLevelRequest__Output, _exhibit_v1_LogLevel>;
  
  WatchCapture: grpc.handleServerStreamingCall<_exhibit_controller_v1_WatchCaptureRequest__Output, _exhibit_controller_v1_CaptureUpdate>;
  
  WhoAmI: grpc.handleUnaryCall<_exhibit_controller_v1_WhoAmIRequest__Output, _exhibit_controller_v1_WhoAmIResponse>;
  
}

export interface ControllerDefinition extends grpc.ServiceDefinition {
  ApproveCapture: MethodDefinition<_exhibit_controller_v1_ApproveCaptureRequest, _exhibit_controller_v1_ControlledCapture, _exhibit_controller_v1_ApproveCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture__Output>
  CancelCapture: MethodDefinition<_exhibit_controller_v1_CancelCaptureRequest, _exhibit_controller_v1_ControlledCapture, _exhibit_controller_v1_CancelCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture__Output>
  CloseCase: MethodDefinition<_exhibit_controller_v1_CloseCaseRequest, _exhibit_controller_v1_Case, _exhibit_controller_v1_CloseCaseRequest__Output, _exhibit_controller_v1_Case__Output>
  CreateCapture: MethodDefinition<_exhibit_controller_v1_CreateCaptureRequest, _exhibit_controller_v1_CreateCaptureResponse, _exhibit_controller_v1_CreateCaptureRequest__Output, _exhibit_controller_v1_CreateCaptureResponse__Output>
  DenyCapture: MethodDefinition<_exhibit_controller_v1_DenyCaptureRequest, _exhibit_controller_v1_ControlledCapture, _exhibit_controller_v1_DenyCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture__Output>
  GetCapture: MethodDefinition<_exhibit_controller_v1_GetCaptureRequest, _exhibit_controller_v1_ControlledCapture, _exhibit_controller_v1_GetCaptureRequest__Output, _exhibit_controller_v1_ControlledCapture__Output>
  GetCase: MethodDefinition<_exhibit_controller_v1_GetCaseRequest, _exhibit_controller_v1_Case, _exhibit_controller_v1_GetCaseRequest__Output, _exhibit_controller_v1_Case__Output>
  GetLogLevel: MethodDefinition<_exhibit_v1_GetLogLevelRequest, _exhibit_v1_LogLevel, _exhibit_v1_GetLogLevelRequest__Output, _exhibit_v1_LogLevel__Output>
  ListCaptures: MethodDefinition<_exhibit_controller_v1_ListCapturesRequest, _exhibit_controller_v1_ListCapturesResponse, _exhibit_controller_v1_ListCapturesRequest__Output, _exhibit_controller_v1_ListCapturesResponse__Output>
  ListCases: MethodDefinition<_exhibit_controller_v1_ListCasesRequest, _exhibit_controller_v1_ListCasesResponse, _exhibit_controller_v1_ListCasesRequest__Output, _exhibit_controller_v1_ListCasesResponse__Output>
  ListContainers: MethodDefinition<_exhibit_controller_v1_ListContainersRequest, _exhibit_controller_v1_ListContainersResponse, _exhibit_controller_v1_ListContainersRequest__Output, _exhibit_controller_v1_ListContainersResponse__Output>
  ListCustody: MethodDefinition<_exhibit_controller_v1_ListCustodyRequest, _exhibit_controller_v1_ListCustodyResponse, _exhibit_controller_v1_ListCustodyRequest__Output, _exhibit_controller_v1_ListCustodyResponse__Output>
  ListNodes: MethodDefinition<_exhibit_controller_v1_ListNodesRequest, _exhibit_controller_v1_ListNodesResponse, _exhibit_controller_v1_ListNodesRequest__Output, _exhibit_controller_v1_ListNodesResponse__Output>
  NoteCase: MethodDefinition<_exhibit_controller_v1_NoteCaseRequest, _exhibit_controller_v1_Case, _exhibit_controller_v1_NoteCaseRequest__Output, _exhibit_controller_v1_Case__Output>
  OpenCase: MethodDefinition<_exhibit_controller_v1_OpenCaseRequest, _exhibit_controller_v1_Case, _exhibit_controller_v1_OpenCaseRequest__Output, _exhibit_controller_v1_Case__Output>
  SetLogLevel: MethodDefinition<_exhibit_v1_SetLogLevelRequest, _exhibit_v1_LogLevel, _exhibit_v1_SetLogLevelRequest__Output, _exhibit_v1_LogLevel__Output>
  WatchCapture: MethodDefinition<_exhibit_controller_v1_WatchCaptureRequest, _exhibit_controller_v1_CaptureUpdate, _exhibit_controller_v1_WatchCaptureRequest__Output, _exhibit_controller_v1_CaptureUpdate__Output>
  WhoAmI: MethodDefinition<_exhibit_controller_v1_WhoAmIRequest, _exhibit_controller_v1_WhoAmIResponse, _exhibit_controller_v1_WhoAmIRequest__Output, _exhibit_controller_v1_WhoAmIResponse__Output>
}
