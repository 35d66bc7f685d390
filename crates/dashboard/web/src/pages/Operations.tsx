import { Curl, Page, Panel } from "../ui/basics";
import { OperationList } from "../ui/lists";

export function Operations() {
  return (
    <Page title="Operations" actions={<Curl path="/api/v1/operations" />}>
      <Panel flush>
        <OperationList of={() => true} />
      </Panel>
    </Page>
  );
}
