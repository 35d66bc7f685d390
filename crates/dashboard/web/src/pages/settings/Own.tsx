import { Button, Group, PasswordInput, Stack } from "@mantine/core";
import { IconBrandGithub } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, take } from "../../api/client";
import { ApiError } from "../../api/problem";
import * as read from "../../api/queries";
import { changePassword } from "../../session/session";
import { Facts, Fault, Loaded, Panel } from "../../ui/basics";
import { ask } from "../../ui/ask";
import { say, sayFailed } from "../../ui/toast";
import { passwordFault } from "../Register";

export function Own() {
  const me = useQuery(read.me);
  return (
    <div className="split even">
      <div className="stack">
        <Panel title="You">
          <Loaded query={me}>
            {(account) => (
              <Facts
                items={[
                  ["Name", account.name],
                  ["Role on the fleet", account.role],
                  ["E-mail", account.email],
                  [
                    "In projects",
                    account.memberships.map((one) => `${one.project} (${one.role})`).join(", ") || "none",
                  ],
                  ["Id", <span className="mono">{account.id}</span>],
                ]}
              />
            )}
          </Loaded>
        </Panel>
        <Github />
      </div>
      <PasswordForm />
    </div>
  );
}

function Github() {
  const methods = useQuery(read.methods);
  if (!methods.data?.github) return null;
  const link = async () => {
    const body = { return_to: "/settings" };
    const { url } = await take(api.POST("/api/v1/auth/github/link", { body }));
    location.assign(url);
  };
  return (
    <Panel title="GitHub">
      <Group gap="sm">
        <Button
          variant="default"
          leftSection={<IconBrandGithub size={16} />}
          onClick={() => void link().catch((error: unknown) => sayFailed("Not linked", error))}
        >
          Link your GitHub account
        </Button>
        <Button
          variant="subtle"
          color="gray"
          onClick={() =>
            ask({
              title: "Take the link to GitHub away?",
              text: "You then sign in with your password only.",
              action: "Take it away",
              danger: true,
              work: () => take(api.DELETE("/api/v1/auth/github/link")),
            })
          }
        >
          Take the link away
        </Button>
      </Group>
    </Panel>
  );
}

function PasswordForm() {
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const field = (name: string) =>
    error instanceof ApiError ? error.fields.find((one) => one.field === name)?.message : undefined;
  const fault = next === "" ? null : passwordFault(next);
  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      await changePassword(current, next);
      say("The password is changed", "All your other sessions have ended.");
      setCurrent("");
      setNext("");
    } catch (caught) {
      setError(caught);
    } finally {
      setBusy(false);
    }
  };
  return (
    <Panel title="Password">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!fault) void submit();
        }}
      >
        <Stack gap="sm">
          <PasswordInput
            label="Present password"
            autoComplete="current-password"
            required
            withAsterisk={false}
            value={current}
            onChange={(event) => setCurrent(event.currentTarget.value)}
            error={field("current_password")}
          />
          <PasswordInput
            label="New password"
            description="12 characters or more. All your other sessions end."
            autoComplete="new-password"
            required
            withAsterisk={false}
            value={next}
            onChange={(event) => setNext(event.currentTarget.value)}
            error={field("new_password") ?? fault}
          />
          {error !== null && !field("current_password") && !field("new_password") && <Fault error={error} />}
          <Group justify="flex-end">
            <Button type="submit" loading={busy}>
              Change the password
            </Button>
          </Group>
        </Stack>
      </form>
    </Panel>
  );
}
