import {
  type CSSVariablesResolver,
  createTheme,
  type MantineColorsTuple,
  Modal,
  Tooltip,
} from "@mantine/core";

const brand: MantineColorsTuple = [
  "#effcf9",
  "#d5f5ee",
  "#a9eadf",
  "#74d8ca",
  "#42bfb0",
  "#22a294",
  "#0f766e",
  "#0d655f",
  "#0b534e",
  "#08403d",
];

/** Cool greys; Mantine takes text, borders and surfaces of the dark scheme from here. */
const dark: MantineColorsTuple = [
  "#dbe1e8",
  "#b6bfca",
  "#95a0ae",
  "#6c7786",
  "#2c3440",
  "#222934",
  "#1a2028",
  "#14191f",
  "#0d1115",
  "#080a0d",
];

export const theme = createTheme({
  primaryColor: "brand",
  primaryShade: { light: 6, dark: 6 },
  colors: { brand, dark },
  fontFamily: '"Inter Variable", system-ui, -apple-system, "Segoe UI", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", Consolas, monospace',
  fontSizes: { xs: "0.75rem", sm: "0.8125rem", md: "0.875rem", lg: "1rem", xl: "1.125rem" },
  headings: { fontWeight: "600" },
  defaultRadius: "md",
  cursorType: "pointer",
  components: {
    Modal: Modal.extend({
      defaultProps: {
        centered: true,
        overlayProps: { backgroundOpacity: 0.5, blur: 2 },
        closeButtonProps: { "aria-label": "Close" },
      },
    }),
    Tooltip: Tooltip.extend({
      defaultProps: { withArrow: true, openDelay: 250, multiline: true, maw: 340 },
    }),
  },
});

/** Where Mantine's own colours have too little contrast. */
export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    "--mantine-color-dimmed": "#586373",
    "--mantine-color-placeholder": "#667181",
    "--mantine-color-error": "#b42318",
    "--mantine-color-default-border": "#dfe3e8",
  },
  dark: {
    "--mantine-color-anchor": "#42bfb0",
    "--mantine-color-placeholder": "#8893a1",
    "--mantine-color-error": "#fa8e83",
  },
});
