import { Anchor, Button, PasswordInput, Stack, Text, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";

import { ApiError } from "../api/problem";
import * as read from "../api/queries";
import { register } from "../session/session";
import { Fault } from "../ui/basics";
import { Door } from "./door";

const PASSWORD_MIN_BYTES = 12;
const PASSWORD_MAX_BYTES = 72;

/** What is wrong with a password, by the controller's rule. */
export function passwordFault(password: string): string | null {
  const size = new TextEncoder().encode(password).length;
  if (size < PASSWORD_MIN_BYTES) return `At least ${PASSWORD_MIN_BYTES} characters.`;
  return size > PASSWORD_MAX_BYTES ? `At most ${PASSWORD_MAX_BYTES} bytes.` : null;
}

/** The invite in a link: behind `#`, so that no server on the way sees it. */
function inviteOfLink(): string {
  return new URLSearchParams(location.hash.slice(1)).get("invite") ?? "";
}

export function Register() {
  const navigate = useNavigate();
  const methods = useQuery(read.methods);
  const [invite, setInvite] = useState(inviteOfLink);
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [touched, setTouched] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const fault = passwordFault(password);
  const field = (of: string) =>
    error instanceof ApiError ? error.fields.find((one) => one.field === of)?.message : undefined;

  const submit = async () => {
    setTouched(true);
    if (fault) return;
    setBusy(true);
    setError(null);
    try {
      await register(name, password, invite.trim() || null);
      await navigate({ to: "/", replace: true });
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  };
  if (methods.data?.registration === "closed") {
    return (
      <Door title="Registration is closed">
        <Text size="sm" c="dimmed" mb="md">
          An administrator of this controller can make an account for you.
        </Text>
        <Anchor size="sm" renderRoot={(props: object) => <Link to="/sign-in" {...props} />}>
          To sign-in
        </Anchor>
      </Door>
    );
  }
  return (
    <Door title="Make an account">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <Stack gap="sm">
          {methods.data?.registration !== "open" && (
            <TextInput
              label="Invite"
              description="An administrator makes it; it decides your role."
              autoComplete="off"
              required
              withAsterisk={false}
              value={invite}
              onChange={(event) => setInvite(event.currentTarget.value)}
              error={field("invite")}
            />
          )}
          <TextInput
            label="Name"
            description="Lower-case letters, digits and inner hyphens."
            autoComplete="username"
            required
            withAsterisk={false}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={field("name")}
          />
          <PasswordInput
            label="Password"
            description={`${PASSWORD_MIN_BYTES} characters or more; a few words make a good one.`}
            autoComplete="new-password"
            required
            withAsterisk={false}
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
            onBlur={() => setTouched(password !== "")}
            error={field("password") ?? (touched ? fault : null)}
          />
          {error !== null && <Fault error={error} />}
          <Button type="submit" fullWidth mt={6} loading={busy}>
            Make the account
          </Button>
          <Text size="sm" c="dimmed" ta="center">
            You have one?{" "}
            <Anchor size="sm" renderRoot={(props: object) => <Link to="/sign-in" {...props} />}>
              Sign in
            </Anchor>
          </Text>
        </Stack>
      </form>
    </Door>
  );
}
