import { Button, Group, SegmentedControl, Text, Textarea } from "@mantine/core";
import { useNavigate } from "@tanstack/react-router";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import { api, take } from "../api/client";
import * as read from "../api/queries";
import { cleaned, type Draft, EMPTY, fromParsed } from "../domain/draft";
import { Curl, Fault, Page, Panel } from "../ui/basics";
import { say } from "../ui/toast";
import { DeployForm } from "./DeployForm";

type Mode = "form" | "yaml" | "json";

/** Writes the draft as the editor shows it; YAML's reader is loaded when it is first wanted. */
async function written(draft: Draft, mode: "yaml" | "json"): Promise<string> {
  const value = cleaned(draft);
  if (mode === "json") return JSON.stringify(value, null, 2);
  const { stringify } = await import("yaml");
  return stringify(value);
}

/** Reads either: all JSON is YAML. */
async function parsed(text: string): Promise<Draft> {
  const { parse } = await import("yaml");
  return fromParsed(parse(text));
}

export function Deploy() {
  const navigate = useNavigate();
  const [draft, setDraft] = useState<Draft>(EMPTY);
  const [mode, setMode] = useState<Mode>("form");
  const [text, setText] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);

  /** The draft as it stands, from whichever of the two is looked at. */
  const present = async () => (mode === "form" ? draft : await parsed(text));

  const turn = async (next: Mode) => {
    try {
      const now = await present();
      setDraft(now);
      if (next !== "form") setText(await written(now, next));
      setMode(next);
      setError(null);
    } catch (caught) {
      setError(caught);
    }
  };
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      const body = cleaned(await present());
      // Sent again after an answer that was lost, the same request does nothing twice.
      const header = { "Idempotency-Key": crypto.randomUUID() };
      const answer = await take(api.POST("/api/v1/deployments", { body, params: { header } }));
      say(`${body.name} is declared`, "Its copies are placed and started now.");
      await read.refreshAll();
      // A plan comes only for a dry run.
      const id = "deployment_id" in answer ? answer.deployment_id : null;
      const deployment = id ?? body.name;
      await navigate({ to: "/deployments/$deployment", params: { deployment } });
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  };
  return (
    <Page
      title="New deployment"
      crumbs={<Link to="/deployments">Deployments</Link>}
      actions={
        <>
          <Curl method="POST" path="/api/v1/deployments" body={cleaned(draft)} />
          <SegmentedControl
            size="xs"
            aria-label="How to write it"
            data={[
              { value: "form", label: "Form" },
              { value: "yaml", label: "YAML" },
              { value: "json", label: "JSON" },
            ]}
            value={mode}
            onChange={(next) => void turn(next)}
          />
        </>
      }
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        {mode === "form" ? (
          <DeployForm draft={draft} change={setDraft} error={error} />
        ) : (
          <Panel title={mode === "yaml" ? "The deployment as YAML" : "The deployment as JSON"}>
            <Text size="sm" c="dimmed" mb="sm">
              All fields of the API are allowed here; what is left out has its default. The form keeps fields
              that it does not show.
            </Text>
            <div className="editor">
              <Textarea
                aria-label={mode === "yaml" ? "YAML" : "JSON"}
                autosize
                minRows={20}
                spellCheck={false}
                value={text}
                onChange={(event) => setText(event.currentTarget.value)}
              />
            </div>
          </Panel>
        )}
        {error !== null && (
          <div style={{ marginTop: 16 }}>
            <Fault error={error} />
          </div>
        )}
        <Group justify="flex-end" mt="md">
          <Button variant="default" renderRoot={(props: object) => <Link to="/deployments" {...props} />}>
            Cancel
          </Button>
          <Button type="submit" loading={busy}>
            Deploy
          </Button>
        </Group>
      </form>
    </Page>
  );
}
