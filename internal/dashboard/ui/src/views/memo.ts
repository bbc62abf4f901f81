import { Component, createElement, type ComponentChild, type FunctionComponent } from "preact";

/** A view that renders again only when one of its properties is another value. */
export function memo<P extends object>(view: FunctionComponent<P>) {
  return class extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const now = this.props as Record<string, unknown>;
      return Object.entries(next).some(([key, value]) => !Object.is(value, now[key]));
    }

    override render(): ComponentChild {
      return createElement(view, this.props as P);
    }
  };
}
