import { Button } from "@mantine/core";
import { IconPlugConnectedX } from "@tabler/icons-react";

import { useConnection } from "../api/problem";
import { refreshAll } from "../api/queries";
import { Ago } from "../ui/basics";

/** Says that the controller is away, and how old what one sees is. */
export function Banner() {
  const { answeredAt, downSince } = useConnection();
  if (downSince === null) return null;
  return (
    <div className="banner tone-warn" role="status">
      <IconPlugConnectedX size={16} aria-hidden />
      <span>
        The controller does not answer. What you see is as of <Ago time={answeredAt ?? downSince} />;
        containers go on running.
      </span>
      <Button size="compact-xs" variant="default" onClick={() => void refreshAll()}>
        Try now
      </Button>
    </div>
  );
}
