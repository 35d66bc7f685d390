import { Radio, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { api, take } from "../../api/client";
import * as read from "../../api/queries";
import { Ago, Loaded, Panel } from "../../ui/basics";
import { say, sayFailed } from "../../ui/toast";

const CHOICES = [
  { value: "invite", label: "Whoever has an invite" },
  {
    value: "open",
    label: "Anybody who reaches this controller",
    about: "They have no role until somebody gives them one.",
  },
  { value: "closed", label: "Nobody", about: "Administrators make accounts." },
];

async function set(registration: string): Promise<void> {
  await take(api.PATCH("/api/v1/settings", { body: { registration } }));
  say("Changed", "It holds in all controllers at once.");
  await read.refreshAll();
}

export function Registration() {
  const settings = useQuery(read.settings);
  return (
    <Panel title="Who may register">
      <Loaded query={settings}>
        {(now) => (
          <Stack gap="md">
            <Radio.Group
              aria-label="Who may register"
              value={now.registration}
              onChange={(value) => void set(value).catch((error: unknown) => sayFailed("Not changed", error))}
            >
              <Stack gap="sm">
                {CHOICES.map((choice) => (
                  <Radio
                    key={choice.value}
                    value={choice.value}
                    label={choice.label}
                    description={choice.about}
                  />
                ))}
              </Stack>
            </Radio.Group>
            <Text size="sm" c="dimmed">
              {now.registration_set_by ? (
                <>
                  Set by {now.registration_set_by}, <Ago time={now.registration_set_at} />. The configuration
                  says: {now.registration_configured}.
                </>
              ) : (
                "As the configuration says."
              )}
            </Text>
          </Stack>
        )}
      </Loaded>
    </Panel>
  );
}
