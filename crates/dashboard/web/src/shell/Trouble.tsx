import { Button } from "@mantine/core";
import { IconMapOff, IconPlugConnectedX } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";

import { Unreachable } from "../api/problem";
import { Empty, Fault } from "../ui/basics";

/** In place of a page that failed; the controller may just be away. */
export function Trouble({ error, reset }: { error: unknown; reset: () => void }) {
  const again = () => {
    reset();
    location.reload();
  };
  if (error instanceof Unreachable) {
    return (
      <Empty
        icon={IconPlugConnectedX}
        title="The controller does not answer"
        action={<Button onClick={again}>Try again</Button>}
      >
        Whether you are signed in can be told once it does. Your containers do not need it to keep running.
      </Empty>
    );
  }
  return (
    <div className="page">
      <Fault error={error} retry={again} />
    </div>
  );
}

export function NotFound() {
  return (
    <Empty
      icon={IconMapOff}
      title="There is no such page"
      action={
        <Button variant="default" renderRoot={(props: object) => <Link to="/" {...props} />}>
          To the overview
        </Button>
      }
    >
      The address may be mistyped, or what it led to is gone.
    </Empty>
  );
}
