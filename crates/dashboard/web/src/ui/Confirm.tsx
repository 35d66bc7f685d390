/** The dialogue that asks. */

import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { type Question, unask, useQuestion } from "./ask";
import { Fault } from "./basics";

export default function Confirm() {
  const question = useQuestion((state) => state.question);
  return (
    <Modal opened={question !== null} onClose={unask} title={question?.title} size="md">
      {question && <Body key={question.title} question={question} />}
    </Modal>
  );
}

function Body({ question }: { question: Question }) {
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const isReady = question.typed === undefined || typed === question.typed;
  const go = async () => {
    setBusy(true);
    try {
      await question.work();
      unask();
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (isReady) void go();
      }}
    >
      <Stack gap="md">
        <Text size="sm" component="div">
          {question.text}
        </Text>
        {question.typed !== undefined && (
          <TextInput
            label={
              <>
                Type <span className="mono">{question.typed}</span> to go on
              </>
            }
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
            autoComplete="off"
            data-autofocus
          />
        )}
        {error !== null && <Fault error={error} />}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={unask}>
            Cancel
          </Button>
          <Button
            type="submit"
            color={question.danger ? "red.8" : undefined}
            loading={busy}
            disabled={!isReady}
          >
            {question.action}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
