import { Button, Group, Modal, Stack, Text } from "@mantine/core";

import { Code } from "../../ui/basics";

/** Shows a secret once: nobody can read it again. */
export function Secret(props: { title: string; text: string | null; about: string; close: () => void }) {
  return (
    <Modal
      opened={props.text !== null}
      onClose={props.close}
      title={props.title}
      closeOnClickOutside={false}
      size="lg"
    >
      <Stack gap="md">
        <Text size="sm">{props.about} It is shown only now.</Text>
        <Code text={props.text ?? ""} what="it" />
        <Group justify="flex-end">
          <Button onClick={props.close}>I have it</Button>
        </Group>
      </Stack>
    </Modal>
  );
}
