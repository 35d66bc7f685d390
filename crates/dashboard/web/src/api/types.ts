/** Short names for the API's views. */

import type { components } from "./schema";

type Schemas = components["schemas"];

export type Node = Schemas["NodeView"];
export type NodeSample = Schemas["NodeSampleView"];
export type Deployment = Schemas["DeploymentView"];
export type DeploymentCreate = Schemas["DeploymentCreate"];
export type Spec = Schemas["SpecView"];
export type Instance = Schemas["InstanceView"];
export type Sample = Schemas["SampleView"];
export type Operation = Schemas["OperationView"];
export type FleetEvent = Schemas["EventView"];
export type Death = Schemas["DeathView"];
export type DeathSummary = Schemas["DeathSummaryView"];
export type Outcome = Schemas["OutcomeView"];
export type Audit = Schemas["AuditView"];
export type AccountRecord = Schemas["AccountRecordView"];
export type Project = Schemas["ProjectView"];
export type Member = Schemas["MemberView"];
export type Invite = Schemas["InviteView"];
export type OwnSession = Schemas["OwnSessionView"];
export type ApiToken = Schemas["ApiTokenView"];
export type EnrolmentToken = Schemas["EnrolmentTokenView"];
export type Me = Schemas["MeView"];
