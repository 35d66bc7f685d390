import { Anchor, Text } from "@mantine/core";
import { getRouteApi, Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";

import { returnPath } from "../router";
import { exchange } from "../session/session";
import { Fault, Waiting } from "../ui/basics";
import { Door } from "./door";

const route = getRouteApi("/welcome");

/** Where GitHub's sign-in ends: turns the one-time code into a session, and goes on. */
export function Welcome() {
  const { code, to } = route.useSearch();
  const navigate = useNavigate();
  const begun = useRef(false);
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    // The code is good once.
    if (begun.current) return;
    begun.current = true;
    void (async () => {
      try {
        await exchange(code ?? "");
        await navigate({ href: returnPath(to), replace: true });
      } catch (caught) {
        setError(caught);
      }
    })();
  }, [code, to, navigate]);
  return (
    <Door title="Signing in with GitHub">
      {error === null ? (
        <Waiting />
      ) : (
        <>
          <Fault error={error} />
          <Text size="sm" mt="md">
            <Anchor renderRoot={(props: object) => <Link to="/sign-in" {...props} />}>To sign-in</Anchor>
          </Text>
        </>
      )}
    </Door>
  );
}
