import {
  ActionIcon,
  Group,
  Menu,
  Tooltip,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import {
  IconChevronDown,
  IconLogout,
  IconMoon,
  IconSettings,
  IconSun,
  IconUserCircle,
} from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";

import { signOut, useSession } from "../session/session";
import { sayFailed } from "../ui/toast";

export default function AccountMenu() {
  const account = useSession((state) => state.account);
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  const out = async () => {
    try {
      await signOut();
    } catch (error) {
      sayFailed("Signed out here, but the controller was not told", error);
    }
  };
  return (
    <Group gap={4} wrap="nowrap">
      <Menu withInitialFocusPlaceholder={false} position="top-start" width={200} withinPortal>
        <Menu.Target>
          <button
            type="button"
            className="nav-item grow"
            style={{ border: 0, background: "none", cursor: "pointer" }}
          >
            <IconUserCircle size={18} stroke={1.6} aria-hidden />
            <span className="cut">{account?.name}</span>
            <IconChevronDown size={13} style={{ marginLeft: "auto" }} aria-hidden />
          </button>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Label role="none">
            {account?.name}, {account?.role === "none" ? "member of projects" : account?.role}
          </Menu.Label>
          <Menu.Item
            leftSection={<IconSettings size={15} />}
            renderRoot={(props: object) => <Link to="/settings" search={{ tab: undefined }} {...props} />}
          >
            Your account
          </Menu.Item>
          <Menu.Item leftSection={<IconLogout size={15} />} onClick={() => void out()}>
            Sign out
          </Menu.Item>
        </Menu.Dropdown>
      </Menu>
      <Tooltip label={dark ? "Light" : "Dark"}>
        <ActionIcon
          variant="subtle"
          color="gray"
          aria-label={dark ? "Use light colours" : "Use dark colours"}
          onClick={() => setColorScheme(dark ? "light" : "dark")}
        >
          {dark ? <IconSun size={17} /> : <IconMoon size={17} />}
        </ActionIcon>
      </Tooltip>
    </Group>
  );
}
