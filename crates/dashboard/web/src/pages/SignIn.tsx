import { Anchor, Button, Divider, PasswordInput, Stack, Text, TextInput } from "@mantine/core";
import { IconBrandGithub } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";

import { ApiError } from "../api/problem";
import * as read from "../api/queries";
import { returnPath } from "../router";
import { signIn, useSession } from "../session/session";
import { Fault } from "../ui/basics";
import { Door } from "./door";

const route = getRouteApi("/sign-in");

/** What the controller says of sign-ins, in words that say what to do. */
export function explained(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  if (error.status === 401) return "Name or password is wrong.";
  if (error.code === "account_disabled")
    return "This account is disabled. An administrator can enable it again.";
  if (error.status === 429) {
    const wait = error.retryAfterSeconds ? ` Try again in ${error.retryAfterSeconds} s.` : " Wait a little.";
    return `Too many attempts.${wait}`;
  }
  return error.message;
}

export function SignIn() {
  const { to, why } = route.useSearch();
  const navigate = useNavigate();
  const methods = useQuery(read.methods);
  const status = useSession((state) => state.status);
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const target = returnPath(to);

  // Here, or in another tab.
  useEffect(() => {
    if (status === "in") void navigate({ href: target, replace: true });
  }, [status, target, navigate]);

  const submit = async () => {
    setBusy(true);
    setError(null);
    try {
      await signIn(name, password);
    } catch (caught) {
      setError(caught);
      setPassword("");
    } finally {
      setBusy(false);
    }
  };
  return (
    <Door title="Sign in">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <Stack gap="sm">
          {why === "ended" && !error && (
            <Text size="sm" c="dimmed">
              You are signed out. After signing in you are back where you were.
            </Text>
          )}
          <TextInput
            label="Name"
            autoComplete="username"
            autoFocus
            required
            withAsterisk={false}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <PasswordInput
            label="Password"
            autoComplete="current-password"
            required
            withAsterisk={false}
            value={password}
            onChange={(event) => setPassword(event.currentTarget.value)}
          />
          {error !== null && (
            <Text size="sm" c="var(--mantine-color-error)" role="alert">
              {explained(error)}
            </Text>
          )}
          <Button type="submit" fullWidth mt={6} loading={busy}>
            Sign in
          </Button>
          {methods.data?.github && (
            <>
              <Divider label="or" />
              <Button
                component="a"
                href={`/api/v1/auth/github?return_to=${encodeURIComponent(target)}`}
                variant="default"
                leftSection={<IconBrandGithub size={17} />}
              >
                Sign in with GitHub
              </Button>
            </>
          )}
          {methods.isError && <Fault error={methods.error} retry={methods.refetch} />}
          {methods.data && methods.data.registration !== "closed" && (
            <Text size="sm" c="dimmed" ta="center" mt={4}>
              {methods.data.registration === "open" ? "No account yet? " : "You have an invite? "}
              <Anchor size="sm" renderRoot={(props: object) => <Link to="/register" {...props} />}>
                Register
              </Anchor>
            </Text>
          )}
        </Stack>
      </form>
    </Door>
  );
}
