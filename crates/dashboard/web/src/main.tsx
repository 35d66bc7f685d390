import "@fontsource-variable/inter/wght.css";
import "./mantine.css";
import "./styles.css";

import { localStorageColorSchemeManager, MantineProvider } from "@mantine/core";
import { QueryClientProvider } from "@tanstack/react-query";
import { RouterProvider } from "@tanstack/react-router";
import { setNonce } from "get-nonce";
import { lazy, StrictMode, Suspense, useState } from "react";
import { createRoot } from "react-dom/client";

import { queryClient } from "./api/queries";
import { router } from "./router";
import { useSession } from "./session/session";
import { theme, variables } from "./theme";
import { useQuestion } from "./ui/ask";
import { Toasts } from "./ui/Toasts";

const Confirm = lazy(() => import("./ui/Confirm"));

/** Loads the dialogue with the first question. */
function Questions() {
  const asked = useQuestion((state) => state.question !== null);
  const [needed, need] = useState(false);
  if (asked && !needed) need(true);
  return <Suspense>{needed && <Confirm />}</Suspense>;
}

// The page's security policy lets styles in only with this.
const nonce = document.querySelector<HTMLMetaElement>("meta[property=csp-nonce]")?.nonce ?? "";
setNonce(nonce);

// What one account has read is not for the next.
useSession.subscribe((now, before) => {
  if (before.account && now.account?.id !== before.account.id) {
    queryClient.clear();
    void router.invalidate();
  }
});

const root = document.getElementById("root");
if (root) {
  createRoot(root).render(
    <StrictMode>
      <MantineProvider
        theme={theme}
        cssVariablesResolver={variables}
        defaultColorScheme="auto"
        colorSchemeManager={localStorageColorSchemeManager({ key: "a67.scheme" })}
        getStyleNonce={() => nonce}
      >
        <QueryClientProvider client={queryClient}>
          <RouterProvider router={router} />
          <Questions />
          <Toasts />
        </QueryClientProvider>
      </MantineProvider>
    </StrictMode>,
  );
}
