import { ActionIcon, Group, Select, Switch, TextInput, Tooltip } from "@mantine/core";
import { IconDownload, IconSearch, IconTextWrap } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type UIEvent, useEffect, useRef, useState } from "react";

import { authorisedFetch } from "../api/client";
import { problem } from "../api/problem";
import type { Instance } from "../api/types";
import { append, asText, EMPTY_LOG, found, type Line, pieces } from "../domain/log";
import { shortId } from "../domain/format";
import { eventsOf } from "../domain/sse";
import { Curl, Fault } from "../ui/basics";

const LINE_PX = 19;
/** Lines that come at once are drawn at once. */
const DRAW_MS = 100;
const AGAIN_MS = 2_000;

type Said = Omit<Line, "number">;

interface Stream {
  log: typeof EMPTY_LOG;
  /** Why no more comes; null while more may. */
  ended: string | null;
  error: unknown;
}

const BEGIN: Stream = { log: EMPTY_LOG, ended: null, error: null };

/** Follows an instance's log. A connection that breaks begins again where it was. */
function useLog(instance: Instance, tail: string, follow: boolean): Stream & { retry: () => void } {
  const [stream, setStream] = useState(BEGIN);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let waiting: Said[] = [];
    let since: string | null = null;
    const draw = () => {
      if (waiting.length === 0) return;
      const said = waiting;
      waiting = [];
      setStream((now) => ({ ...now, log: append(now.log, said) }));
    };
    const timer = setInterval(draw, DRAW_MS);
    const once = async (): Promise<string | null> => {
      const query = new URLSearchParams({ follow: String(follow), tail: since ? "10000" : tail });
      if (since) query.set("since", since);
      const response = await authorisedFetch(`/api/v1/instances/${instance.id}/logs?${query.toString()}`, {
        signal: abort.signal,
        headers: { Accept: "text/event-stream" },
      });
      if (!response.ok || !response.body) throw await problem(response);
      for await (const event of eventsOf(response.body)) {
        const data = JSON.parse(event.data) as Said & { message?: string };
        if (event.name === "end") return "The log is complete.";
        if (event.name === "error") return data.message ?? "The log breaks off here.";
        // What was seen before the connection broke comes once more.
        if (since && data.at && data.at <= since) continue;
        if (data.at) since = data.at;
        waiting.push(data);
      }
      return null;
    };
    const go = async () => {
      for (;;) {
        const ended = await once();
        draw();
        if (ended !== null) {
          setStream((now) => ({ ...now, ended }));
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    };
    go().catch((error: unknown) => {
      if (!abort.signal.aborted) setStream((now) => ({ ...now, error }));
    });
    return () => {
      abort.abort();
      clearInterval(timer);
      setStream(BEGIN);
    };
    // A new attempt is a new container, with a log of its own that goes on in the same stream.
  }, [instance.id, tail, follow, attempt]);
  return { ...stream, retry: () => setAttempt((now) => now + 1) };
}

const TAILS = [
  { value: "100", label: "last 100" },
  { value: "1000", label: "last 1,000" },
  { value: "10000", label: "last 10,000" },
];

export default function LogView({ instance }: { instance: Instance }) {
  const [tail, setTail] = useState("1000");
  const [follow, setFollow] = useState(true);
  const [wrap, setWrap] = useState(true);
  const [search, setSearch] = useState("");
  const { log, ended, error, retry } = useLog(instance, tail, follow);
  const lines = found(log.lines, search);
  const save = () => {
    const url = URL.createObjectURL(new Blob([asText(log.lines)], { type: "text/plain" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = `${instance.deployment}-${shortId(instance.id)}.log`;
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <>
      <Group gap={10} p="xs" style={{ borderBottom: "1px solid var(--line)" }}>
        <TextInput
          size="xs"
          w={190}
          leftSection={<IconSearch size={14} />}
          placeholder="Search in these lines"
          aria-label="Search in these lines"
          value={search}
          onChange={(event) => setSearch(event.currentTarget.value)}
        />
        <span className="dim" style={{ fontSize: "0.76rem" }} role="status">
          {search ? `${lines.length} of ${log.lines.length}` : `${log.lines.length}`} lines
          {log.dropped > 0 && `, ${log.dropped} older ones let go`}
        </span>
        <Group gap={8} ml="auto">
          <Switch
            size="xs"
            label="Follow"
            checked={follow}
            onChange={(event) => setFollow(event.currentTarget.checked)}
          />
          <Select
            size="xs"
            w={112}
            aria-label="How many lines"
            data={TAILS}
            value={tail}
            allowDeselect={false}
            onChange={(value) => setTail(value ?? "1000")}
          />
          <Tooltip label={wrap ? "Long lines are wrapped" : "Long lines go on to the right"}>
            <ActionIcon
              variant={wrap ? "light" : "default"}
              size={30}
              aria-label="Wrap long lines"
              aria-pressed={wrap}
              onClick={() => setWrap(!wrap)}
            >
              <IconTextWrap size={15} />
            </ActionIcon>
          </Tooltip>
          <Tooltip label="Download these lines">
            <ActionIcon variant="default" size={30} aria-label="Download these lines" onClick={save}>
              <IconDownload size={15} />
            </ActionIcon>
          </Tooltip>
          <Curl size={30} path={`/api/v1/instances/${instance.id}/logs?tail=${tail}`} />
        </Group>
      </Group>
      {error !== null ? (
        <div className="panel-body">
          <Fault error={error} retry={retry} />
        </div>
      ) : (
        <Lines lines={lines} wrap={wrap} search={search} ended={ended} />
      )}
    </>
  );
}

function Lines(props: { lines: readonly Line[]; wrap: boolean; search: string; ended: string | null }) {
  const { lines, wrap, search, ended } = props;
  const area = useRef<HTMLDivElement>(null);
  // At the end one stays at the end; who scrolls up stays there.
  const sticks = useRef(true);
  const virtual = useVirtualizer({
    count: lines.length,
    getScrollElement: () => area.current,
    estimateSize: () => LINE_PX,
    getItemKey: (index) => lines[index]?.number ?? index,
    overscan: 30,
  });
  useEffect(() => {
    if (sticks.current && lines.length > 0) virtual.scrollToIndex(lines.length - 1, { align: "end" });
  }, [lines.length, wrap, virtual]);
  const onScroll = (event: UIEvent<HTMLDivElement>) => {
    const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
    sticks.current = scrollHeight - scrollTop - clientHeight < 2 * LINE_PX;
  };
  return (
    <div className="log" ref={area} onScroll={onScroll} tabIndex={0} role="log" aria-label="Log">
      <div style={{ height: virtual.getTotalSize() + 12, position: "relative" }}>
        {virtual.getVirtualItems().map((item) => {
          const line = lines[item.index];
          if (!line) return null;
          return (
            <div
              key={item.key}
              data-index={item.index}
              ref={virtual.measureElement}
              className={`log-line ${wrap ? "wrap" : ""} ${line.stream}`}
              style={{
                position: "absolute",
                top: 6,
                left: 0,
                right: 0,
                transform: `translateY(${item.start}px)`,
              }}
            >
              {line.at && <time dateTime={line.at}>{clockOf(line.at)}</time>}
              <span>{marked(line.text, search)}</span>
            </div>
          );
        })}
      </div>
      {lines.length === 0 && (
        <div className="dim" style={{ padding: "2px 16px" }}>
          {search ? "No line has that." : (ended ?? "Nothing was written yet.")}
        </div>
      )}
      {lines.length > 0 && ended && (
        <div className="dim" style={{ padding: "2px 16px 10px" }}>
          {ended}
        </div>
      )}
    </div>
  );
}

function clockOf(at: string): string {
  const date = new Date(at);
  return `${date.toLocaleTimeString(undefined, { hour12: false })}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

function marked(text: string, search: string) {
  const parts = pieces(text, search);
  if (parts.length === 1) return text;
  return parts.map((part, at) => (at % 2 === 1 ? <mark key={at}>{part}</mark> : part));
}
