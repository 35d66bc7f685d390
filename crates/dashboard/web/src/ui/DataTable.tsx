/** A table with sorting. Long ones keep only the rows in sight in the page. */

import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { type ReactNode, useMemo, useRef, useState } from "react";

export interface Column<T> {
  id: string;
  header: string;
  cell: (row: T) => ReactNode;
  /** What to sort by; a column without is not sorted by. */
  sort?: (row: T) => string | number;
  className?: string;
}

interface Props<T> {
  label: string;
  rows: readonly T[];
  columns: Column<T>[];
  rowKey: (row: T) => string;
  sortedBy?: string;
  descending?: boolean;
}

/** Below, all rows are in the page: searching in it finds them. */
const WHOLE_MAX = 120;
const ROW_PX = 42;

export function sorted<T>(rows: readonly T[], value: (row: T) => string | number, descending: boolean): T[] {
  const sign = descending ? -1 : 1;
  const keyed = rows.map((row, index) => ({ row, index, key: value(row) }));
  keyed.sort((one, other) => {
    const order =
      typeof one.key === "number" && typeof other.key === "number"
        ? one.key - other.key
        : String(one.key).localeCompare(String(other.key), undefined, { numeric: true });
    return order === 0 ? one.index - other.index : sign * order;
  });
  return keyed.map(({ row }) => row);
}

export function DataTable<T>({ label, rows, columns, rowKey, sortedBy, descending = false }: Props<T>) {
  const [order, setOrder] = useState({ by: sortedBy, descending });
  const shown = useMemo(() => {
    const value = columns.find((column) => column.id === order.by)?.sort;
    return value ? sorted(rows, value, order.descending) : [...rows];
  }, [rows, columns, order]);
  const turn = (id: string) =>
    setOrder((now) => ({ by: id, descending: now.by === id ? !now.descending : false }));
  return (
    <div className="table-scroll">
      <table className="data" aria-label={label}>
        <thead>
          <tr>
            {columns.map((column) => (
              <th
                key={column.id}
                className={column.className}
                aria-sort={
                  order.by === column.id ? (order.descending ? "descending" : "ascending") : undefined
                }
              >
                {column.sort ? (
                  <button type="button" onClick={() => turn(column.id)}>
                    {column.header}
                    {order.by === column.id &&
                      (order.descending ? <IconArrowDown size={12} /> : <IconArrowUp size={12} />)}
                  </button>
                ) : (
                  column.header
                )}
              </th>
            ))}
          </tr>
        </thead>
        {shown.length > WHOLE_MAX ? (
          <Windowed rows={shown} columns={columns} rowKey={rowKey} />
        ) : (
          <tbody>
            {shown.map((row) => (
              <Row key={rowKey(row)} row={row} columns={columns} />
            ))}
          </tbody>
        )}
      </table>
    </div>
  );
}

function Row<T>({ row, columns }: { row: T; columns: Column<T>[] }) {
  return (
    <tr>
      {columns.map((column) => (
        <td key={column.id} className={column.className}>
          {column.cell(row)}
        </td>
      ))}
    </tr>
  );
}

function Windowed<T>({ rows, columns, rowKey }: Pick<Props<T>, "columns" | "rowKey"> & { rows: T[] }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const [top, setTop] = useState(0);
  const virtual = useWindowVirtualizer({
    count: rows.length,
    estimateSize: () => ROW_PX,
    overscan: 12,
    scrollMargin: top,
  });
  const items = virtual.getVirtualItems();
  const before = (items[0]?.start ?? top) - top;
  const after = virtual.getTotalSize() - ((items.at(-1)?.end ?? top) - top);
  return (
    <tbody
      ref={(element) => {
        body.current = element;
        if (element) setTop(element.getBoundingClientRect().top + window.scrollY);
      }}
    >
      <Spacer height={before} span={columns.length} />
      {items.map((item) => {
        const row = rows[item.index];
        return row === undefined ? null : <Row key={rowKey(row)} row={row} columns={columns} />;
      })}
      <Spacer height={after} span={columns.length} />
    </tbody>
  );
}

function Spacer({ height, span }: { height: number; span: number }) {
  if (height <= 0) return null;
  return (
    <tr className="spacer" aria-hidden>
      <td colSpan={span} style={{ height }} />
    </tr>
  );
}
