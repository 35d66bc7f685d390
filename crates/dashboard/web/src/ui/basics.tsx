/** Small pieces that all pages are made of. */

import { ActionIcon, Button, CopyButton, Loader, Tooltip } from "@mantine/core";
import { IconAlertTriangle, IconCheck, IconCopy, IconTerminal2, type TablerIcon } from "@tabler/icons-react";
import type { ReactNode } from "react";

import { ApiError } from "../api/problem";
import { asCurl } from "../domain/curl";
import { exact, UNKNOWN } from "../domain/format";
import type { Shown } from "../domain/state";
import { useAgo } from "./clock";

export function State({ shown }: { shown: Shown }) {
  const badge = <span className={`state tone-${shown.tone}`}>{shown.label}</span>;
  return shown.why ? <Tooltip label={shown.why}>{badge}</Tooltip> : badge;
}

export function Ago({ time }: { time: string | number | null | undefined }) {
  return time === null || time === undefined ? <>{UNKNOWN}</> : <KnownAgo time={time} />;
}

function KnownAgo({ time }: { time: string | number }) {
  const text = useAgo(time);
  return (
    <time className="nowrap" dateTime={new Date(time).toISOString()} title={exact(time)}>
      {text}
    </time>
  );
}

interface PageProps {
  title: ReactNode;
  /** For the browser's tab; the title where that is a text. */
  name?: string;
  crumbs?: ReactNode;
  sub?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, name, crumbs, sub, actions, children }: PageProps) {
  const shown = name ?? (typeof title === "string" ? title : undefined);
  return (
    <div className="page">
      <title>{shown ? `${shown} · Automator67` : "Automator67"}</title>
      {crumbs && (
        <nav className="crumbs" aria-label="Breadcrumbs">
          {crumbs}
        </nav>
      )}
      <div className="page-head">
        <h1>{title}</h1>
        {sub && <span className="sub">{sub}</span>}
        <div style={{ marginLeft: "auto", display: "flex", flexWrap: "wrap", gap: 8 }}>{actions}</div>
      </div>
      {children}
    </div>
  );
}

interface PanelProps {
  title?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
  flush?: boolean;
}

export function Panel({ title, actions, children, flush = false }: PanelProps) {
  return (
    <section className="panel">
      {(title ?? actions) && (
        <div className="panel-head">
          {title && <h2>{title}</h2>}
          <div className="actions">{actions}</div>
        </div>
      )}
      {flush ? children : <div className="panel-body">{children}</div>}
    </section>
  );
}

export function Empty(props: { icon: TablerIcon; title: string; children: ReactNode; action?: ReactNode }) {
  const Icon = props.icon;
  return (
    <div className="empty">
      <Icon size={30} stroke={1.4} aria-hidden />
      <strong>{props.title}</strong>
      <p>{props.children}</p>
      {props.action}
    </div>
  );
}

export function Fault({ error, retry }: { error: unknown; retry?: (() => unknown) | undefined }) {
  const message = error instanceof Error ? error.message : String(error);
  const refused = error instanceof ApiError ? error : null;
  return (
    <div className="fault" role="alert">
      <IconAlertTriangle size={18} aria-hidden />
      <div className="grow">
        <div>{message}</div>
        {refused &&
          !(refused.fields.length === 1 && message.includes(refused.fields[0]?.message ?? "")) &&
          refused.fields.length > 0 && (
            <ul>
              {refused.fields.map((fault) => (
                <li key={fault.field + fault.message}>
                  <span className="mono">{fault.field}</span> {fault.message}
                </li>
              ))}
            </ul>
          )}
        {refused && (
          <div className="meta">
            {refused.code}
            {refused.requestId && (
              <>
                {" · request "}
                <span className="mono">{refused.requestId}</span>
              </>
            )}
          </div>
        )}
      </div>
      {retry && (
        <Button size="compact-xs" variant="default" onClick={() => void retry()}>
          Try again
        </Button>
      )}
    </div>
  );
}

interface Query<T> {
  data: T | undefined;
  error: unknown;
  isPending: boolean;
  refetch: () => unknown;
}

/** What was read, as soon as it is; what was read before stays while reading it again fails. */
export function Loaded<T>({ query, children }: { query: Query<T>; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.isPending) return <Waiting />;
  return <Fault error={query.error} retry={query.refetch} />;
}

export function Waiting() {
  return (
    <div className="empty" role="status" aria-label="Loading">
      <Loader size="sm" color="gray" />
    </div>
  );
}

export function Facts({ items }: { items: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {items.map(([name, value]) => (
        <div key={name} style={{ display: "contents" }}>
          <dt>{name}</dt>
          <dd>{value ?? UNKNOWN}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Chips({ of }: { of: Record<string, string> | readonly string[] }) {
  const texts = Array.isArray(of)
    ? (of as string[])
    : Object.entries(of).map(([name, value]) => `${name}=${value}`);
  if (texts.length === 0) return <span className="dim">none</span>;
  return (
    <span className="chips">
      {texts.map((text) => (
        <span className="chip" key={text}>
          {text}
        </span>
      ))}
    </span>
  );
}

export function Copy({ text, what }: { text: string; what: string }) {
  return (
    <CopyButton value={text} timeout={1_500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : `Copy ${what}`}>
          <ActionIcon variant="subtle" color="gray" size="sm" onClick={copy} aria-label={`Copy ${what}`}>
            {copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}

export function Code({ text, what }: { text: string; what: string }) {
  return (
    <pre className="code">
      {text}
      <span style={{ position: "absolute", top: 8, right: 8 }}>
        <Copy text={text} what={what} />
      </span>
    </pre>
  );
}

/** Copies the request that a page is made of, or that a click would send. */
export function Curl(props: { method?: string; path: string; body?: unknown; size?: number }) {
  const text = asCurl(props.method ?? "GET", props.path, location.origin, props.body);
  return (
    <CopyButton value={text} timeout={1_500}>
      {({ copied, copy }) => (
        <Tooltip label={copied ? "Copied" : "Copy as curl"}>
          <ActionIcon variant="default" size={props.size ?? 36} onClick={copy} aria-label="Copy as curl">
            {copied ? <IconCheck size={15} /> : <IconTerminal2 size={15} />}
          </ActionIcon>
        </Tooltip>
      )}
    </CopyButton>
  );
}

export function Meter({ part, whole }: { part: number; whole: number }) {
  const share = whole > 0 ? Math.min(1, part / whole) : 0;
  const tone = share > 0.9 ? "bad" : share > 0.75 ? "warn" : "good";
  return (
    <div className={`meter tone-${tone}`} aria-hidden>
      <span style={{ width: `${share * 100}%` }} />
    </div>
  );
}
