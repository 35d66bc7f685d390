import { Curl, Page, Panel } from "../ui/basics";
import { EventList } from "../ui/lists";

export function Events() {
  return (
    <Page
      title="Events"
      sub="What happened in the fleet, with its cause"
      actions={<Curl path="/api/v1/events" />}
    >
      <Panel flush>
        <EventList />
      </Panel>
    </Page>
  );
}
