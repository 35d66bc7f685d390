import { Modal, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";

import * as read from "../api/queries";
import { shortId } from "../domain/format";
import { useAccess } from "./access";
import { type Entry, matching, usePalette } from "./palette";

const SHOWN_MAX = 12;

const PAGES: Entry[] = [
  { label: "Overview", kind: "page", href: "/" },
  { label: "Deployments", kind: "page", href: "/deployments" },
  { label: "New deployment", kind: "action", href: "/deploy" },
  { label: "Operations", kind: "page", href: "/operations" },
  { label: "Events", kind: "page", href: "/events" },
  { label: "Settings", kind: "page", href: "/settings" },
  { label: "Sessions", kind: "settings", href: "/settings?tab=sessions" },
  { label: "API tokens", kind: "settings", href: "/settings?tab=tokens" },
];
const ADMIN_PAGES: Entry[] = [
  { label: "Audit", kind: "page", href: "/audit" },
  { label: "Accounts", kind: "settings", href: "/settings?tab=accounts" },
  { label: "Invites", kind: "settings", href: "/settings?tab=invites" },
  { label: "Projects", kind: "settings", href: "/settings?tab=projects" },
];

function useEntries(): Entry[] {
  const access = useAccess();
  const nodes = useQuery({ ...read.nodes, enabled: access.fleet }).data;
  const deployments = useQuery(read.deployments).data;
  return useMemo(
    () => [
      ...PAGES,
      ...(access.fleet ? [{ label: "Nodes", kind: "page", href: "/nodes" }] : []),
      ...(access.admin ? ADMIN_PAGES : []),
      ...(deployments ?? []).map((one) => ({
        label: one.name,
        kind: "deployment",
        href: `/deployments/${one.id}`,
      })),
      ...(nodes ?? []).map((node) => ({ label: node.name, kind: "node", href: `/nodes/${node.name}` })),
      ...(deployments ?? []).flatMap((one) =>
        one.instances.map((instance) => ({
          label: `${one.name} ${shortId(instance.id)}`,
          kind: `instance on ${instance.node}`,
          href: `/instances/${instance.id}`,
        })),
      ),
    ],
    [access.fleet, access.admin, nodes, deployments],
  );
}

export default function Palette() {
  const palette = usePalette();
  const navigate = useNavigate();
  const [query, setQuery] = useState("");
  const [at, setAt] = useState(0);
  const entries = useEntries();
  const found = matching(entries, query, SHOWN_MAX);
  const chosen = Math.min(at, found.length - 1);
  useEffect(() => {
    document.getElementById(`palette-${chosen}`)?.scrollIntoView({ block: "nearest" });
  }, [chosen]);
  const go = (entry: Entry | undefined) => {
    if (!entry) return;
    palette.set(false);
    void navigate({ href: entry.href });
  };
  return (
    <Modal
      opened
      onClose={() => palette.set(false)}
      withCloseButton={false}
      padding={0}
      size={560}
      yOffset="12vh"
      centered={false}
      attributes={{ content: { "aria-label": "Search" } }}
    >
      <TextInput
        data-autofocus
        size="md"
        variant="unstyled"
        px="md"
        leftSection={<IconSearch size={16} />}
        leftSectionWidth={44}
        placeholder="Deployments, nodes, instances, pages"
        aria-label="Search"
        role="combobox"
        aria-expanded
        aria-controls="palette-list"
        aria-activedescendant={`palette-${chosen}`}
        value={query}
        onChange={(event) => {
          setQuery(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          if (event.key === "ArrowDown") setAt(Math.min(chosen + 1, found.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(chosen - 1, 0));
          else if (event.key === "Enter") go(found[chosen]);
          else return;
          event.preventDefault();
        }}
      />
      <div
        id="palette-list"
        role="listbox"
        aria-label="Found"
        style={{
          borderTop: "1px solid var(--line)",
          padding: "6px 0",
          maxHeight: "52vh",
          overflow: "auto",
        }}
      >
        {found.map((entry, index) => (
          <button
            key={entry.href + entry.label}
            id={`palette-${index}`}
            type="button"
            role="option"
            tabIndex={-1}
            aria-selected={index === chosen}
            className="palette-item"
            onMouseMove={() => setAt(index)}
            onClick={() => go(entry)}
          >
            <span className="cut">{entry.label}</span>
            <span className="kind">{entry.kind}</span>
          </button>
        ))}
        {found.length === 0 && <div className="palette-item dim">Nothing has that name.</div>}
      </div>
    </Modal>
  );
}
