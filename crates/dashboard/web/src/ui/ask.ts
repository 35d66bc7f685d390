/** A question before anything that cannot be undone; `Confirm` asks it. */

import type { ReactNode } from "react";
import { create } from "zustand";

export interface Question {
  title: string;
  text: ReactNode;
  /** What the button says. */
  action: string;
  /** What has to be typed first. */
  typed?: string;
  danger?: boolean;
  work: () => Promise<unknown>;
}

export const useQuestion = create<{ question: Question | null }>(() => ({ question: null }));

export function ask(question: Question): void {
  useQuestion.setState({ question });
}

export function unask(): void {
  useQuestion.setState({ question: null });
}
